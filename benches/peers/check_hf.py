"""Checks that transformers loads a model directory and agrees with `opd score` on it.

    opd score --model DIR --input tokens.jsonl --output scores.jsonl
    python check_hf.py DIR tokens.jsonl scores.jsonl [--temperature 1] [--tolerance 1e-4] [--text]

tokens.jsonl has lines {"tokens": [ids], "prompt_len": n}, scores.jsonl the lines that `opd score` made
of them: {"log_probs": [..], "entropies": [..]} for the tokens from position n on. The model is loaded
by AutoModelForCausalLM in float32; no tensor may be missing, left over or of another shape. --text also
loads AutoTokenizer and checks that the sequences survive decoding and encoding. Exits with 1 on any
disagreement.

    python check_hf.py DIR --make tokens.jsonl [--n 16] [--length 24] [--seed 0]

writes random token sequences for the first command.

    python check_hf.py --bundled OPD

trains the bundled student by the program OPD for a few steps, saves it as one file, in shards and with
adapters merged into it, and checks each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


FORMS = {
    "one file": [],
    "shards of 100 kB": ["--max-shard-bytes", "100000"],
    "merged adapters": ["--lora-rank", "8", "--lr", "1e-3"],
}


def make(directory, path, n=16, most=24, seed=0):
    config = AutoConfig.from_pretrained(directory)
    generator = torch.Generator().manual_seed(seed)
    draw = lambda low, high, shape: torch.randint(low, high, shape, generator=generator)
    with open(path, "w") as out:
        for _ in range(n):
            length = draw(2, most + 1, (1,)).item()
            tokens = draw(0, config.vocab_size, (length,)).tolist()
            out.write(json.dumps({"tokens": tokens, "prompt_len": draw(1, length + 1, (1,)).item()}) + "\n")


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]


def load(directory):
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True
    )
    for what in "missing_keys", "unexpected_keys", "mismatched_keys":
        if info[what]:
            sys.exit(f"{directory}: {what}: {sorted(map(str, info[what]))}")
    return model.eval()


@torch.no_grad()
def reference(model, tokens, prompt_len, temperature):
    """Log-probs of tokens[prompt_len:] and entropies there, of softmax(logits / temperature)."""
    logits = model(torch.tensor([tokens])).logits[0, prompt_len - 1 : -1].float()
    logp = (logits / temperature).log_softmax(-1)
    wanted = torch.tensor(tokens[prompt_len:], dtype=torch.long)
    return logp.gather(1, wanted[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def largest_difference(ours, theirs, where):
    ours = torch.tensor(ours, dtype=torch.float64)
    if ours.shape != theirs.shape:
        sys.exit(f"{where}: {len(ours)} values, transformers has {len(theirs)}")
    if not ours.isfinite().all():
        sys.exit(f"{where}: a value is not finite")
    return (ours - theirs.double()).abs().max().item() if len(ours) else 0.0


def check(directory, tokens, scores, temperature=1.0):
    """Worst differences between the scores and those of transformers, in words, and the greatest."""
    inputs, scored = lines(tokens), lines(scores)
    if len(inputs) != len(scored):
        sys.exit(f"{scores}: {len(scored)} lines for {len(inputs)} inputs")
    model = load(directory)
    worst = {"log_probs": 0.0, "entropies": 0.0}
    n_tokens = 0
    for number, (row, score) in enumerate(zip(inputs, scored), 1):
        expected = reference(model, row["tokens"], row.get("prompt_len", 1), temperature)
        n_tokens += len(expected[0])
        for name, theirs in zip(worst, expected):
            difference = largest_difference(score[name], theirs, f"line {number}, {name}")
            worst[name] = max(worst[name], difference)
    if not n_tokens:
        sys.exit(f"{tokens}: nothing to compare")
    said = ", ".join(f"{name} differ by at most {value:.1e}" for name, value in worst.items())
    return f"{type(model).__name__}, {len(inputs)} sequences, {n_tokens} tokens: {said}", max(worst.values())


def bundled(opd, tolerance):
    with tempfile.TemporaryDirectory() as work:
        for name, flags in FORMS.items():
            run = Path(work) / name.replace(" ", "-")
            model, tokens, scores = (str(run / part) for part in ("model", "tokens.jsonl", "scores.jsonl"))
            train = [opd, "train", "--steps", "20", "--eval-prompts", "4", "--eval-interval", "0", "--quiet"]
            subprocess.run([*train, "--output", str(run), *flags], check=True, stdout=subprocess.DEVNULL)
            make(model, tokens, n=200)
            score = [opd, "score", "--quiet", "--model", model, "--input", tokens, "--output", scores]
            subprocess.run(score, check=True)
            files = len(list(Path(model).glob("*.safetensors")))
            if (files > 1) != ("--max-shard-bytes" in flags):
                sys.exit(f"{name}: {files} weight files")
            said, worst = check(model, tokens, scores)
            print(f"{name} ({files}): {said}")
            if worst > tolerance:
                sys.exit(f"above the tolerance of {tolerance:g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("input", nargs="?")
    parser.add_argument("scores", nargs="?")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--make", metavar="FILE")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--length", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundled", metavar="OPD")
    args = parser.parse_args()
    if args.bundled:
        return bundled(args.bundled, args.tolerance)
    if args.make and args.model:
        return make(args.model, args.make, args.n, args.length, args.seed)
    if not args.scores:
        parser.error("give the token file and the score file, or --make FILE")

    said, worst = check(args.model, args.input, args.scores, args.temperature)
    if args.text:
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        for number, row in enumerate(lines(args.input), 1):
            text = tokenizer.decode(row["tokens"], skip_special_tokens=False)
            if tokenizer(text, add_special_tokens=False).input_ids != row["tokens"]:
                sys.exit(f"line {number}: {text!r} does not encode to the ids it was decoded from")
    print(said)
    if worst > args.tolerance:
        sys.exit(f"above the tolerance of {args.tolerance:g}")


if __name__ == "__main__":
    main()
