"""Log-probs of given tokens by `opd` and by transformers in turn, on one model: tokens/s and their ratio.

    benches/peers/run.sh --scoring MODEL_DIR [--sequences 4] [--length 512] [--precision f32]
        [--rounds 3] [--threads 2]

Sequences are random ids. opd scores them once and five times in a file; the seconds between are
those of four times the sequences. transformers computes the logits of one batch and the log-prob of
every token. Each time is the best of the rounds. In bf16 transformers has weights and everything else in bf16, opd the
products of its layers; `shift` is the mean distance of opd's log-probs from its own in f32.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPD = HERE.parents[1] / "target" / "release" / "opd"


def sequences(args):
    vocab = json.loads((Path(args.model) / "config.json").read_text())["vocab_size"]
    draw = random.Random(7)
    return [[draw.randrange(100, vocab - 100) for _ in range(args.length)] for _ in range(args.sequences)]


def score(args, times, precision):
    """Seconds of `opd score` on so many copies, and the log-probs."""
    with tempfile.TemporaryDirectory() as work:
        asked, answers = Path(work) / "asked.jsonl", Path(work) / "answers.jsonl"
        lines = [json.dumps({"tokens": ids}) + "\n" for ids in sequences(args)]
        asked.write_text("".join(lines) * times)
        command = [OPD, "score", "--model", args.model, "--input", asked, "--output", answers, "--quiet"]
        command += ["--threads", args.threads, "--precision", precision]
        began = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True)
        seconds = time.perf_counter() - began
        return seconds, [x for line in answers.read_text().splitlines() for x in json.loads(line)["log_probs"]]


def theirs(args):
    """A function that scores the sequences and gives its seconds."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    ids = torch.tensor(sequences(args))

    def run():
        began = time.perf_counter()
        with torch.no_grad():
            logits = model(ids).logits[:, :-1].float()
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])
        return time.perf_counter() - began, logprobs.flatten().tolist()

    run()
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    peer = theirs(args)
    own, other = [], []
    for _ in range(args.rounds):
        (once, logprobs), (often, _) = score(args, 1, args.precision), score(args, 5, args.precision)
        own.append((once, often))
        seconds, reference = peer()
        other.append(seconds)
    full = score(args, 1, "f32")[1]
    distance = [abs(a - b) for a, b in zip(logprobs, full, strict=True)]
    apart = [abs(a - b) for a, b in zip(reference, full, strict=True)]
    once, often = (min(times) for times in zip(*own))
    seconds, tokens = (often - once) / 4, args.sequences * args.length
    print(
        json.dumps(
            {
                "precision": args.precision,
                "batch": f"{args.sequences}x{args.length}",
                "opd_tokens_per_s": round(tokens / seconds),
                "transformers_tokens_per_s": round(tokens / min(other)),
                "ratio": round(min(other) / seconds, 2),
                "shift": sum(distance) / len(distance),
                "transformers_shift": sum(apart) / len(apart),
            }
        )
    )


if __name__ == "__main__":
    main()
