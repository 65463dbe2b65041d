"""Writes trl.json: the generalised Jensen-Shannon divergence of TRL's `GKDTrainer`, as TRL
computes it, and its gradient with respect to the student's logits.

    pip install torch trl
    python make_trl.py > trl.json
"""

import json

import torch
import trl
from trl.experimental.gkd import GKDTrainer

torch.manual_seed(20261129)
torch.set_default_dtype(torch.float64)

cases = []
for rows, length, vocab, scale, temperature in [(2, 5, 9, 1.0, 1.0), (3, 4, 33, 4.0, 0.7), (2, 3, 17, 20.0, 1.5)]:
    student = torch.randn(rows, length, vocab) * scale
    teacher = torch.randn(rows, length, vocab) * scale
    labels = torch.randint(0, vocab, (rows, length))
    labels[0, -2:] = -100
    labels[1, 0] = -100
    for beta in [0.0, 0.1, 0.5, 1.0]:
        logits = student.clone().requires_grad_()
        loss = GKDTrainer.generalized_jsd_loss(logits, teacher, labels, beta=beta, temperature=temperature)
        loss.backward()
        cases.append({
            "beta": beta, "temperature": temperature, "student_logits": student.tolist(),
            "teacher_logits": teacher.tolist(), "mask": (labels != -100).tolist(),
            "loss": loss.item(), "grad": logits.grad.tolist(),
        })

print(json.dumps({
    "source": f"make_trl.py beside this file: trl {trl.__version__}, GKDTrainer.generalized_jsd_loss, in float64",
    "cases": cases,
}))
