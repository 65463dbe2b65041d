"""Writes more_divergences.json: mixed KL, total variation, and top-k KLs on the student's support
and truncated, with gradients with respect to the student's logits.

Float64 autograd of torch on the plain definitions (no fused form, no shared code with the
crate). Run it beside its output:

    python make_more_divergences.py > more_divergences.json
"""

import json

import torch

torch.manual_seed(20261123)
torch.set_default_dtype(torch.float64)


def kl(log_a, log_b):
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def with_bucket(log_x):
    inside = torch.logsumexp(log_x, -1, keepdim=True).clamp(max=-1e-7)
    return torch.cat([log_x, torch.log(-torch.expm1(inside))], -1)


def renormalised(log_x):
    return log_x - torch.logsumexp(log_x, -1, keepdim=True)


TAILS = {"bucket": with_bucket, "renormalised": renormalised, "truncated": lambda x: x}


def cases():
    for rows, vocab, scale, temperature in [(3, 7, 1.0, 1.0), (4, 33, 3.0, 0.7), (2, 65, 8.0, 2.0), (3, 12, 20.0, 1.0)]:
        student = (torch.randn(rows, vocab) * scale).requires_grad_()
        teacher = torch.randn(rows, vocab) * scale
        weights = torch.randn(rows)
        case = {
            "T": rows, "V": vocab, "temperature": temperature, "student_logits": student.tolist(),
            "teacher_logits": teacher.tolist(), "token_weights": weights.tolist(), "expected": {},
        }

        def add(name, of):
            log_p = torch.log_softmax(student / temperature, -1)
            log_q = torch.log_softmax(teacher / temperature, -1)
            value = of(log_p, log_q)
            (gradient,) = torch.autograd.grad((value * weights).sum(), student)
            case["expected"][name] = {"per_token": value.tolist(), "grad": gradient.tolist()}

        for w in [0.0, 0.3, 1.0]:
            add(f"mixed_{w}", lambda p, q: w * kl(q, p) + (1 - w) * kl(p, q))
        add("total_variation", lambda p, q: (p.exp() - q.exp()).abs().sum(-1) / 2)
        for k in [1, 3]:
            for support in ["student", "teacher"]:
                for tail, view in TAILS.items():
                    if k == 1 and tail == "renormalised":
                        continue

                    def of(p, q, forward):
                        ids = (p if support == "student" else q).topk(k, -1).indices
                        p, q = view(p.gather(-1, ids)), view(q.gather(-1, ids))
                        return kl(q, p) if forward else kl(p, q)

                    add(f"top{k}_{support}_{tail}_forward", lambda p, q: of(p, q, True))
                    add(f"top{k}_{support}_{tail}_reverse", lambda p, q: of(p, q, False))
        yield case


print(json.dumps({"source": "make_more_divergences.py beside this file: torch autograd in float64", "cases": list(cases())}))
