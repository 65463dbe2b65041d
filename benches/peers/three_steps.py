"""Three on-policy distillation steps of a real model, ours and PyTorch's, compared tensor by tensor.

    python three_steps.py --model DIR --ours target/release/examples/three_steps [--work DIR]

The teacher is the model, the student the model after noise of relative size 0.02. Each step has four
responses of different lengths that the student sampled; teacher minus student log-prob is a token's
advantage, and the importance-sampling loss is averaged over tokens. `examples/three_steps.rs` makes
the steps with the crates; here they are written out with transformers and autograd, in float32.
Compares losses (within 1e-4), every tensor's gradient at every step (within 1e-3 of its norm) and the
update of all three steps (within 2e-2 of its norm under AdamW, whose first steps are nearly signs,
and 1e-3 under plain gradient descent). Exits with 1 if anything is farther off. Needs 5 GB of memory
and 4 GB of disk.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The history of the bicycle begins in",
    "To make a good soup, first",
    "In mathematics, a prime number is a natural number that",
    "She opened the letter and read:",
]
NEW_TOKENS = [24, 41, 33, 56]
OPTIMIZERS = {"adamw": (1e-5, 2e-2), "sgd": (1e-2, 1e-3)}
CLIP = 1.0


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def make_student(model, directory):
    """A copy after noise, saved, and three batches that it sampled."""
    torch.manual_seed(20261123)
    student = load(model)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.dim() > 1:
                parameter += 0.02 * parameter.std() * torch.randn_like(parameter)
    student.save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(model)
    batches = []
    for _ in range(3):
        batch = []
        for prompt, n in zip(PROMPTS, NEW_TOKENS):
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            out = student.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                temperature=1.0, min_new_tokens=n, max_new_tokens=n, pad_token_id=0,
            )
            tokens = out[0].tolist()
            batch.append({"prompt": tokens[: ids.shape[1]], "response": tokens[ids.shape[1] :]})
        batches.append(batch)
    return batches


def logprobs(model, row):
    tokens, n = torch.tensor([row["prompt"] + row["response"]]), len(row["prompt"])
    logits = model(tokens).logits[0, n - 1 : -1]
    return logits.log_softmax(-1).gather(1, tokens[0, n:, None])[:, 0]


def steps(model, student_dir, batches, name, lr, check):
    """Takes the steps; calls `check` with each step's loss and gradients."""
    student, teacher = load(student_dir), load(model).requires_grad_(False)
    if name == "adamw":
        optimizer = torch.optim.AdamW(
            student.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0
        )
    else:
        optimizer = torch.optim.SGD(student.parameters(), lr=lr)
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        n_tokens = sum(len(row["response"]) for row in batch)
        total = 0.0
        for row in batch:
            own = logprobs(student, row)
            with torch.no_grad():
                advantage = logprobs(teacher, row) - own.detach()
            loss = -((own - own.detach()).exp() * advantage).sum() / n_tokens
            loss.backward()
            total += loss.item()
        check(step, total, student)
        if name == "adamw":
            torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
    return student


def distance(ours, theirs):
    """Norm of the difference over the norm of PyTorch's."""
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--ours", required=True, help="the built example")
    parser.add_argument("--work", help="keeps the student and the files there")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary)
        student_dir = work / "student"
        batches = make_student(args.model, student_dir)
        (work / "batches.json").write_text(json.dumps(batches))
        with safe_open(student_dir / "model.safetensors", "pt") as file:
            names = list(file.keys())
        for name, (lr, tolerance) in OPTIMIZERS.items():
            command = [args.ours, student_dir, args.model, work / "batches.json", work, name, str(lr)]
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if ran.returncode:
                sys.exit(ran.stderr)
            ours = json.loads(ran.stdout)
            report = {"optimizer": name, "losses": [], "loss_off": 0.0, "gradient_off": []}

            def check(step, loss, student):
                report["losses"].append(loss)
                report["loss_off"] = max(report["loss_off"], abs(loss - ours[step]))
                worst = (0.0, "")
                with safe_open(work / f"gradients-{step}.safetensors", "pt") as file:
                    theirs = dict(student.named_parameters())
                    assert set(file.keys()) == set(theirs), "the same tensors"
                    for key, parameter in theirs.items():
                        worst = max(worst, (distance(file.get_tensor(key), parameter.grad), key))
                report["gradient_off"].append(worst)

            student = steps(args.model, student_dir, batches, name, lr, check)
            apart, whole = 0.0, 0.0
            with safe_open(student_dir / "model.safetensors", "pt") as start, safe_open(
                work / "model.safetensors", "pt"
            ) as end:
                theirs = dict(student.named_parameters())
                for key in names:
                    before = start.get_tensor(key).double()
                    moved = theirs[key].detach().double() - before
                    apart += ((end.get_tensor(key).double() - before) - moved).pow(2).sum().item()
                    whole += moved.pow(2).sum().item()
            report["update_off"] = (apart / whole) ** 0.5
            report["update_norm"] = whole**0.5
            print(json.dumps(report), flush=True)
            gradients = max(off for off, _ in report["gradient_off"])
            good &= report["loss_off"] < 1e-4 and gradients < 1e-3 and report["update_off"] < tolerance
    print("agrees" if good else "DOES NOT AGREE")
    sys.exit(not good)


if __name__ == "__main__":
    main()
