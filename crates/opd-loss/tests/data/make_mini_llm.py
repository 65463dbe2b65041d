"""Writes mini_llm.json: the loss of MiniLLM and its gradient with respect to the student's logits.

Float64, standard library alone, from the definitions of sections 2.2 and 2.3 of
https://arxiv.org/abs/2306.08543. Gradients are complex-step derivatives (the imaginary part of
the loss at logits + 1e-30 i, exact to rounding), with everything that the method holds constant
(importance weights of the exact part, advantages) computed from real parts. Run it beside its
output:

    python make_mini_llm.py > mini_llm.json
"""

import cmath
import json
import math
import random

random.seed(20261123)
STEP = 1e-30


def log_softmax(z):
    top = max(x.real for x in z)
    lse = cmath.log(sum(cmath.exp(x - top) for x in z)) + top
    return [x - lse for x in z]


def larger(x, y):
    return x if x.real >= y.real else y


def clamp(x, low, high):
    return complex(low) if x.real < low else complex(high) if x.real > high else x


def loss(rows, logits, coef, below, above, temperature, branches):
    """`logits[i][t]` are the student's; the mean over trained tokens."""
    total, tokens = 0, sum(sum(row["mask"]) for row in rows)
    for row, own in zip(rows, logits):
        for t, trained in enumerate(row["mask"]):
            if not trained:
                continue
            p = log_softmax([x / temperature for x in own[t]])
            q = log_softmax([complex(x) / temperature for x in row["teacher_logits"][t]])
            kl = sum(cmath.exp(a) * (a - b) for a, b in zip(p, q))
            weight = math.exp(row["old"][t] - row["sampler"][t])
            ratio = cmath.exp(p[row["ids"][t]] - row["sampler"][t])
            advantage = row["advantages"][t]
            bounded = clamp(ratio, 1 - below, 1 + above)
            side = "low" if ratio.real < 1 - below else "high" if ratio.real > 1 + above else "inside"
            branches.add((side, (advantage > 0) - (advantage < 0)))
            long = larger(-ratio * advantage, -bounded * advantage)
            total += coef * weight * kl + long
    return total / tokens


def advantages(row, coef, normalised):
    """What follows a token: the sum of log q - log p_old over later trained tokens."""
    result = []
    for t in range(len(row["mask"])):
        later = [i for i in range(t + 1, len(row["mask"])) if row["mask"][i]]
        signal = sum(row["teacher"][i] - row["old"][i] for i in later)
        result.append(coef * signal / (max(len(later), 1) if normalised else 1))
    return result


def make_row(length, vocab, alpha, temperature, scale):
    draw = lambda: [[random.gauss(0, scale) for _ in range(vocab)] for _ in range(length)]
    old, teacher = draw(), draw()
    # The student has moved a little since the responses were drawn.
    student = [[x + random.gauss(0, 0.4 * scale) for x in row] for row in old]
    ids, old_logprobs, teacher_logprobs, sampler = [], [], [], []
    for t in range(length):
        p = log_softmax([complex(x) / temperature for x in old[t]])
        q = log_softmax([complex(x) / temperature for x in teacher[t]])
        mixture = [alpha * math.exp(b.real) + (1 - alpha) * math.exp(a.real) for a, b in zip(p, q)]
        chosen = random.choices(range(vocab), mixture)[0]
        ids.append(chosen)
        old_logprobs.append(p[chosen].real)
        teacher_logprobs.append(q[chosen].real)
        sampler.append(math.log(mixture[chosen]))
    mask = [length == 1 or random.random() < 0.8 for _ in range(length)]
    return {
        "student_logits": student, "teacher_logits": teacher, "ids": ids, "old": old_logprobs,
        "teacher": teacher_logprobs, "sampler": sampler, "mask": mask,
    }


# A batch's streams are f32: round what is stored there, so that both sides compute from one input.
def single(x):
    import struct
    return struct.unpack("f", struct.pack("f", x))[0]


def cases():
    settings = [
        (0.0, 1.0, 1.0, True, 0.2, 0.2, 1.0), (0.2, 1.0, 1.0, True, 0.2, 0.2, 1.5),
        (0.5, 0.7, 0.5, False, 0.2, 0.28, 2.0), (0.2, 2.0, 2.0, True, 1.0, 9.0, 3.0),
    ]
    for alpha, temperature, coef, normalised, below, above, scale in settings:
        rows = [make_row(n, 9, alpha, temperature, scale) for n in (5, 1, 8, 3)]
        for row in rows:
            for stream in ("old", "teacher", "sampler"):
                row[stream] = [single(x) for x in row[stream]]
            row["advantages"] = [single(x) for x in advantages(row, coef, normalised)]
        branches = set()
        real = [[[complex(x) for x in token] for token in row["student_logits"]] for row in rows]
        value = loss(rows, real, coef, below, above, temperature, branches).real
        gradient = []
        for row in real:
            for token in row:
                for v, x in enumerate(token):
                    token[v] = x + STEP * 1j
                    moved = loss(rows, real, coef, below, above, temperature, set())
                    gradient.append(moved.imag / STEP)
                    token[v] = x
        yield {
            "alpha": alpha, "temperature": temperature, "coef": coef, "length_normalised": normalised,
            "below": below, "above": above, "rows": rows, "loss": value, "grad": gradient,
            "branches": sorted(f"{side} {sign}" for side, sign in branches),
        }


print(json.dumps({"cases": list(cases())}))
