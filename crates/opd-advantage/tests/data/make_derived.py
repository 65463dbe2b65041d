"""Writes derived.json: advantages of the estimators that estimators.json does not cover.

Float64, standard library only, written from the papers' definitions and by enumeration where a
closed form is under test (teams of pass@k, leave-one-out means). Run it beside its output:

    python3 make_derived.py > derived.json
"""

import itertools
import json
import math
import random

random.seed(20261123)


def case(groups, lengths, rewards, missing, mask_share):
    rows = []
    for group, n, reward in zip(groups, lengths, rewards):
        rows.append({
            "group": group,
            "reward": reward,
            "source": ["math", "code", "chat"][group % 3],
            "old": [-random.expovariate(0.7) for _ in range(n)],
            "teacher": [None if random.random() < missing else -random.expovariate(0.7) for _ in range(n)],
            "reference": [-random.expovariate(0.7) for _ in range(n)],
            "mask": [random.random() < mask_share for _ in range(n)],
        })
    return rows


def members(rows, i):
    return [j for j, row in enumerate(rows) if row["group"] == rows[i]["group"]]


def broadcast(rows, values):
    return [[value] * len(row["old"]) for row, value in zip(rows, values)]


def opo(rows):
    out = []
    for i, row in enumerate(rows):
        own = members(rows, i)
        tokens = sum(len(rows[j]["old"]) for j in own)
        baseline = sum(len(rows[j]["old"]) * rows[j]["reward"] for j in own) / tokens
        out.append(row["reward"] - baseline)
    return broadcast(rows, out)


def rloo(rows):
    out = []
    for i, row in enumerate(rows):
        others = [rows[j]["reward"] for j in members(rows, i) if j != i]
        out.append(row["reward"] - sum(others) / len(others) if others else 0.0)
    return broadcast(rows, out)


def max_rl(rows):
    out = []
    for i, row in enumerate(rows):
        own = [rows[j]["reward"] for j in members(rows, i)]
        mean = sum(own) / len(own)
        out.append((row["reward"] - mean) / mean if mean > 0 else 0.0)
    return broadcast(rows, out)


def pass_at(k):
    def of(rows):
        out = []
        for i in range(len(rows)):
            own = members(rows, i)
            teams = list(itertools.combinations(own, k))
            worth = [max(rows[j]["reward"] for j in team) for team in teams]
            if not teams or max(worth) == min(worth):
                out.append(0.0)
                continue
            mean = sum(worth) / len(worth)
            deviation = math.sqrt(sum((w - mean) ** 2 for w in worth) / len(worth))
            with_it = [w for team, w in zip(teams, worth) if i in team]
            out.append((sum(with_it) / len(with_it) - mean) / deviation)
        return broadcast(rows, out)
    return of


def discounted_return(gamma, baseline):
    def of(rows):
        out = []
        mean = sum(row["reward"] for row in rows) / len(rows)
        for i, row in enumerate(rows):
            own = [rows[j]["reward"] for j in members(rows, i)]
            base = {
                "none": 0.0,
                "batch_mean": mean,
                "group_mean": sum(own) / len(own),
                "leave_one_out": (sum(own) - row["reward"]) / (len(own) - 1) if len(own) > 1 else row["reward"],
            }[baseline]
            trained = [t for t, m in enumerate(row["mask"]) if m]
            last = trained[-1] if trained else -1
            gain = row["reward"] - base
            out.append([gamma ** (last - t) * gain if t <= last else 0.0 for t in range(len(row["old"]))])
        return out
    return of


def signal(row, t, coef, lam):
    teacher = row["teacher"][t]
    if teacher is None or not row["mask"][t]:
        return 0.0
    return coef * ((teacher - row["old"][t]) + (lam - 1) * (teacher - row["reference"][t]))


def extrapolated(coef, lam, discount):
    def of(rows):
        out = []
        for row in rows:
            n = len(row["old"])
            x = [signal(row, t, coef, lam) for t in range(n)]
            out.append([sum(discount ** (s - t) * x[s] for s in range(t, n)) for t in range(n)])
        return out
    return of


def prefix_weighted(gamma):
    def of(rows):
        out = []
        for row in rows:
            n = len(row["old"])
            a = [signal(row, t, 1.0, 1.0) for t in range(n)]
            total = max(sum(abs(v) for v in a), 1e-8)
            out.append([(1 + gamma * (1 - sum(abs(v) for v in a[:t]) / total)) * a[t] for t in range(n)])
        return out
    return of


def prefix_ratio(power):
    def of(rows):
        out = []
        for row in rows:
            n = len(row["old"])
            gaps = [signal(row, t, 1.0, 1.0) for t in range(n)]
            # Probabilities, not their logarithms: the product of the ratios before each token.
            ratios = [math.prod(math.exp(gap) for gap in gaps[:t]) for t in range(n)]
            out.append([min(1.0, ratio ** power) * gap for ratio, gap in zip(ratios, gaps)])
        return out
    return of


def future(coef, normalised):
    def of(rows):
        out = []
        for row in rows:
            n = len(row["old"])
            trained = [t for t in range(n) if row["mask"][t] and row["teacher"][t] is not None]
            values = []
            for t in range(n):
                later = [row["teacher"][i] - row["old"][i] for i in trained if i > t]
                count = len(later) if normalised else 1
                values.append(coef * sum(later) / count if later else 0.0)
            out.append(values)
        return out
    return of


def by_source(coefs):
    def of(rows):
        return [
            [coefs.get(row["source"], 1.0) * signal(row, t, 1.0, 1.0) for t in range(len(row["old"]))]
            for row in rows
        ]
    return of


ESTIMATORS = {
    "opo": opo,
    "rloo": rloo,
    "max_rl": max_rl,
    "pass_at_1": pass_at(1),
    "pass_at_2": pass_at(2),
    "pass_at_3": pass_at(3),
    "return_none_0.9": discounted_return(0.9, "none"),
    "return_batch_mean_1": discounted_return(1.0, "batch_mean"),
    "return_group_mean_0.9": discounted_return(0.9, "group_mean"),
    "return_leave_one_out_0.5": discounted_return(0.5, "leave_one_out"),
    "extrapolated_0.7_1.5_0": extrapolated(0.7, 1.5, 0.0),
    "extrapolated_1_0.5_0.9": extrapolated(1.0, 0.5, 0.9),
    "extrapolated_1_1_0": extrapolated(1.0, 1.0, 0.0),
    "prefix_weighted_0.5": prefix_weighted(0.5),
    "prefix_ratio_1": prefix_ratio(1.0),
    "prefix_ratio_0.3": prefix_ratio(0.3),
    "future_0.7": future(0.7, True),
    "future_sum_0.7": future(0.7, False),
    "by_source_code_0.25": by_source({"code": 0.25}),
}

CASES = [
    # A group of four, of three and of one, with missing scores and masks.
    case([0, 1, 0, 0, 2, 1, 0, 1], [3, 1, 5, 2, 4, 6, 1, 2], [1.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.25, -0.5], 0.2, 0.7),
    # Rewards of 0 and 1; a group that always fails, one that always succeeds, full masks.
    case([0] * 4 + [1] * 4 + [2] * 4, [2, 7, 3, 3] * 3, [0.0, 1.0, 0.0, 0.0] + [0.0] * 4 + [1.0] * 4, 0.0, 1.1),
    # A wholly masked row and rows whose last tokens are masked come up at this share.
    case([0, 0, 1, 1, 2, 2], [1, 2, 4, 8, 3, 1], [random.uniform(-2, 2) for _ in range(6)], 0.5, 0.4),
]

print(json.dumps({
    "source": "make_derived.py beside this file: float64, from definitions and by enumeration",
    "cases": [
        {"rows": rows, "expected": {name: of(rows) for name, of in ESTIMATORS.items()}} for rows in CASES
    ],
}))
