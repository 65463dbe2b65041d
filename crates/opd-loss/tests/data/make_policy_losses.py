"""Writes policy_losses.json: policy losses, CISPO with a lower bound among them, under every
aggregation, with gradients with respect to the student's log-probs.

Float64 autograd of torch, one token and one sequence at a time, from the definitions; shares no
code with the crate. Inputs are float32 numbers, bounds are exact in binary. Run it beside its
output:

    python make_policy_losses.py > policy_losses.json
"""

import json

import torch

torch.manual_seed(20261129)
torch.set_default_dtype(torch.float64)

BELOW, ABOVE, DUAL = 0.25, 0.5, 3.0


def surrogate(ratio, advantage, dual=None):
    bounded = min(max(ratio.item(), 1 - BELOW), 1 + ABOVE)
    loss = -ratio * advantage
    if -bounded * advantage > loss.item():
        loss = torch.tensor(-bounded * advantage, requires_grad=True)
    if dual is not None and advantage < 0 and -dual * advantage < loss.item():
        loss = torch.tensor(-dual * advantage, requires_grad=True)
    return loss


def per_token(name, row, student):
    """The losses of a sequence's tokens with mask 1."""
    tokens = [t for t, m in enumerate(row["mask"]) if m]
    gaps = {t: student[t] - row["old"][t] for t in tokens}
    losses = []
    for t in tokens:
        advantage, ratio = row["advantages"][t], gaps[t].exp()
        if name == "importance_sampling":
            losses.append(-ratio * advantage)
        elif name == "reinforce":
            losses.append(-student[t] * advantage)
        elif name == "ppo_clip":
            losses.append(surrogate(ratio, advantage))
        elif name == "ppo_dual_clip":
            losses.append(surrogate(ratio, advantage, DUAL))
        elif name == "cispo":
            weight = min(max(ratio.item(), 1 - BELOW), 1 + ABOVE)
            losses.append(-weight * advantage * student[t])
        elif name == "gspo":
            losses.append(surrogate((sum(gaps.values()) / len(tokens)).exp(), advantage))
    return losses


def aggregated(how, horizon, rows):
    """`rows`: the losses of each sequence's trained tokens."""
    rows = [row for row in rows if row]
    if how == "token_mean":
        return sum(sum(row) for row in rows) / sum(len(row) for row in rows)
    if how == "token_sum":
        return sum(sum(row) for row in rows)
    if how == "sequence_mean_token_mean":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    return sum(sum(row) / horizon for row in rows) / len(rows)


AGGREGATIONS = [
    ("token_mean", None), ("token_sum", None), ("sequence_mean_token_mean", None),
    ("sequence_mean_token_sum", 5), ("sequence_mean_token_sum", 16),
]
LOSSES = ["importance_sampling", "reinforce", "ppo_clip", "ppo_dual_clip", "gspo", "cispo"]


def single(values):
    return values.to(torch.float32).to(torch.float64).tolist()


def row(mask, drift):
    """A sequence whose mean log-ratio is about `drift`."""
    n = len(mask)
    old = -torch.rand(n) * 3 - 2
    return {
        "mask": mask, "old": single(old), "advantages": single(torch.randn(n) * 2),
        "student": single(torch.clamp(old + drift + torch.randn(n) * 0.7, max=-0.05)),
    }


CASES = [
    # A wholly masked sequence, a masked tail, a masked start, and full masks, the ratios of
    # whole sequences below, inside and above their bounds.
    [
        row([True, True, True, False, False], -1.2), row([False, False, False], 0.3), row([True] * 5, 0.0),
        row([False, True, True, True], 1.2), row([True, False, True, True, False], 0.1), row([True], -0.6),
    ],
    # Full masks of one length.
    [row([True] * 4, drift) for drift in [-1.0, 0.0, 1.0]],
]


def case(rows):
    students = [torch.tensor(row["student"], requires_grad=True) for row in rows]
    expected = []
    for name in LOSSES:
        for how, horizon in AGGREGATIONS:
            losses = [per_token(name, row, student) for row, student in zip(rows, students)]
            loss = aggregated(how, horizon, losses)
            gradients = torch.autograd.grad(loss, students, allow_unused=True)
            gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(students, gradients)]
            expected.append({
                "loss": name, "aggregation": how, "horizon": horizon, "value": loss.item(),
                "grad": [g.tolist() for g in gradients],
            })
    return {"rows": rows, "expected": expected}


print(json.dumps({
    "source": "make_policy_losses.py beside this file: torch autograd in float64, from the definitions",
    "below": BELOW, "above": ABOVE, "dual": DUAL, "cases": [case(rows) for rows in CASES],
}))
