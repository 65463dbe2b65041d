"""The bundled job in PyTorch: the peer that `opd train` is timed against.

On-policy distillation of a small student from a teacher: every step samples 8 answers to each of 32
prompts, takes teacher minus student log-prob as each token's advantage, and makes one update by the
importance-sampling loss. Written for speed on a CPU: all samples advance together through a KV cache
that is filled once a prompt, every shape is fixed, scoring is a forward pass without a graph, the
head is applied to response positions only, and AdamW is fused.

    python pocket_torch.py --student DIR --teacher DIR --data DIR [--steps 400] [--seed 0]
        [--threads 2] [--compile] [--output FILE]

Prints one JSON object. seconds.training = rollout + scoring + update; loading and evaluation are
outside, and so are compilation and warm-up with --compile (reported as seconds.warm_up).
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import qwen3

PAD, EOS = 0, 1
PROMPTS, SAMPLES = 32, 8
SCORE_ROWS = 64  # rows that the teacher scores at once: its activations stay in the cache
MAX_LR, WARM_UP, MAX_NORM = 5e-4, 5, 1.0


def read(path, vocab):
    """Prompts [n, time] and labels [n, time + 1] (EOS included) of a data file, as ids."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    ids = lambda text: [vocab[c] for c in text]
    prompts = torch.tensor([ids(row["prompt"]) for row in rows])
    return prompts, torch.tensor([ids(row["label"]) + [EOS] for row in rows])


@torch.inference_mode()
def generate(model, prompts, samples, new_tokens):
    """Responses [prompts * samples, new_tokens] at temperature 1, PAD after EOS."""
    n, length = prompts.shape
    prefix = model.new_cache(n, length)
    logits = model(prompts, cache=prefix, logits_from=length - 1)[:, 0]
    cache = model.new_cache(n * samples, length + new_tokens)
    for (keys, values), (prefix_keys, prefix_values) in zip(cache, prefix):
        keys[:, :, :length] = prefix_keys.repeat_interleave(samples, 0)
        values[:, :, :length] = prefix_values.repeat_interleave(samples, 0)
    logits = logits.repeat_interleave(samples, 0)
    out = torch.full((n * samples, new_tokens), PAD)
    done = torch.zeros(n * samples, dtype=torch.bool)
    for i in range(new_tokens):
        # argmax(p / exponential noise) draws from p; multinomial does the same with more checks.
        p = logits.softmax(-1)
        token = (p / torch.empty_like(p).exponential_()).argmax(-1).masked_fill(done, PAD)
        out[:, i] = token
        done |= token == EOS
        if i + 1 == new_tokens or done.all():
            break
        logits = model(token[:, None], cache=cache, start=length + i)[:, 0]
    return out


def response_logprobs(forward, sequences, prompt_length):
    """Log-probs [batch, new_tokens] of everything after the prompt."""
    logits = forward(sequences[:, :-1], logits_from=prompt_length - 1)
    return -F.cross_entropy(
        logits.flatten(0, 1), sequences[:, prompt_length:].flatten(), reduction="none"
    ).view(len(sequences), -1)


def response_mask(responses):
    """1 up to and with the first EOS."""
    ended = (responses == EOS).cumsum(1)
    return (ended - (responses == EOS).long() == 0).float()


def learning_rate(step, steps):
    """Linear warm-up, then a cosine down to a tenth."""
    if step < WARM_UP:
        return MAX_LR * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return MAX_LR * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def pass_at_1(model, prompts, labels, new_tokens):
    """Share of exact answers, one sample a prompt at temperature 1."""
    wanted = F.pad(labels, (0, max(0, new_tokens - labels.shape[1])), value=PAD)
    right = 0
    for p, w in zip(prompts.split(2048), wanted.split(2048)):
        right += (generate(model, p, 1, new_tokens) == w).all(1).sum().item()
    return right / len(prompts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--student", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", required=True, help="folder of train.jsonl and test.jsonl")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=9)
    parser.add_argument("--eval-file", default="test.jsonl")
    parser.add_argument("--no-eval", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the scoring and training forward passes")
    parser.add_argument("--check", action="store_true", help="compare both models with transformers first")
    parser.add_argument("--output")
    args = parser.parse_args()

    started = time.perf_counter()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data = Path(args.data)
    vocab = json.loads((Path(args.student) / "tokenizer.json").read_text())["model"]["vocab"]
    assert vocab["<pad>"] == PAD and vocab["<eos>"] == EOS
    student, teacher = qwen3.load(args.student), qwen3.load(args.teacher).requires_grad_(False)
    train, _ = read(data / "train.jsonl", vocab)
    test, labels = read(data / args.eval_file, vocab)
    if args.check:
        for directory, model in (args.student, student), (args.teacher, teacher):
            difference = qwen3.check_against(directory, model, test[:64])
            assert difference < 1e-4, (directory, difference)
            print(f"{directory}: logits differ from transformers by at most {difference:.1e}")

    n_new, length = args.max_new_tokens, train.shape[1]
    evaluate = lambda model: None if args.no_eval else pass_at_1(model, test, labels, n_new)
    before, of_teacher = evaluate(student), evaluate(teacher)

    optimizer = torch.optim.AdamW(student.parameters(), lr=MAX_LR, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    student_forward, teacher_forward = student, teacher
    warm_up = 0.0
    if args.compile:
        t0 = time.perf_counter()
        student_forward, teacher_forward = torch.compile(student), torch.compile(teacher)
        dummy = train[:1].repeat(PROMPTS * SAMPLES, 3)[:, : length + n_new].contiguous()
        with torch.inference_mode():
            response_logprobs(teacher_forward, dummy[:SCORE_ROWS], length)
        response_logprobs(student_forward, dummy, length).sum().backward()
        optimizer.zero_grad()
        warm_up = time.perf_counter() - t0

    order = list(range(len(train)))
    shuffle = random.Random(args.seed)
    seconds = {"rollout": 0.0, "scoring": 0.0, "update": 0.0}
    generated, position = 0, len(order)
    for step in range(args.steps):
        t0 = time.perf_counter()
        if position + PROMPTS > len(order):
            shuffle.shuffle(order)
            position = 0
        prompts = train[order[position : position + PROMPTS]]
        position += PROMPTS
        responses = generate(student, prompts, SAMPLES, n_new)
        sequences = torch.cat((prompts.repeat_interleave(SAMPLES, 0), responses), dim=1)
        mask = response_mask(responses)
        t1 = time.perf_counter()
        with torch.inference_mode():
            chunks = sequences.split(SCORE_ROWS)
            teacher_logprobs = torch.cat([response_logprobs(teacher_forward, c, length) for c in chunks])
        t2 = time.perf_counter()
        # One update a batch: the student's own log-probs are the old ones.
        student_logprobs = response_logprobs(student_forward, sequences, length)
        old = student_logprobs.detach()
        advantages = teacher_logprobs - old
        n_tokens = mask.sum()
        loss = -((student_logprobs - old).exp() * advantages * mask).sum() / n_tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_NORM, foreach=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        t3 = time.perf_counter()
        seconds["rollout"] += t1 - t0
        seconds["scoring"] += t2 - t1
        seconds["update"] += t3 - t2
        generated += int(n_tokens)

    training = sum(seconds.values())
    report = {
        "pass_at_1": {"before": before, "after": evaluate(student), "teacher": of_teacher},
        "seconds": {"training": training, **seconds, "warm_up": warm_up, "total": time.perf_counter() - started},
        "generated_tokens": generated,
        "tokens_per_second": generated / training,
        "steps": args.steps,
        "seed": args.seed,
        "eval_prompts": 0 if args.no_eval else len(test),
        "threads": args.threads,
        "compile": args.compile,
        "torch": torch.__version__,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        Path(args.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
