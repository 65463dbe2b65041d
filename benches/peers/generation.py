"""Generation by `opd` and by transformers in turn, on one model: tokens/s, their ratio, peak memory.

    benches/peers/run.sh --generation MODEL_DIR [--batches 1 8 32] [--precision f32]
        [--rounds 3] [--threads 2]

Prompts are random ids. Each side generates one token, and that many more; the seconds between are
those of the tokens that follow the first, with what has to be done for them once. Drawn at
temperature 1; each of the two is the best of the rounds. In bf16 transformers has weights and everything else in bf16, opd
the products of its layers. Peak memory is the resident set of the longer run, the program
and the weights included.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPD = HERE.parents[1] / "target" / "release" / "opd"


def peak(command):
    """Runs a command; its seconds and the MiB of its resident set at their highest."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return time.perf_counter() - began, usage.ru_maxrss / 1024, said


def ours(args, batch):
    with tempfile.TemporaryDirectory() as work:
        asked, answers = Path(work) / "asked.jsonl", Path(work) / "answers.jsonl"
        asked.write_text("".join(json.dumps({"tokens": ids}) + "\n" for ids in prompts(args, batch)))

        def run(new):
            answers.unlink(missing_ok=True)
            command = [OPD, "generate", "--model", args.model, "--input", asked, "--output", answers, "--quiet"]
            command += ["--max-new-tokens", str(new), "--ignore-eos", "--threads", str(args.threads)]
            command += ["--precision", args.precision]
            return peak([str(part) for part in command])

        short, long = run(1), run(1 + args.new)
    return (short[0], long[0]), long[1]


def theirs(args, batch):
    command = [sys.executable, __file__, args.model, "--batches", str(batch), "--new", str(args.new)]
    _, memory, said = peak([*command, "--prompt", str(args.prompt), "--threads", str(args.threads), "--precision", args.precision, "--here"])
    return tuple(float(seconds) for seconds in said.split()[-2:]), memory


def prompts(args, batch):
    vocab = json.loads((Path(args.model) / "config.json").read_text())["vocab_size"]
    draw = random.Random(batch)
    return [[draw.randrange(100, vocab - 100) for _ in range(args.prompt)] for _ in range(batch)]


def here(args):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.bfloat16 if args.precision == "bf16" else torch.float32
    )
    ids = torch.tensor(prompts(args, args.batches[0]))

    def run(new):
        began = time.perf_counter()
        with torch.no_grad():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=new,
                max_new_tokens=new,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=0,
            )
        return time.perf_counter() - began

    run(4)
    print(run(1), run(1 + args.new))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens after the first")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        return here(args)
    print(f"{date.today()}, {os.cpu_count()} cores, {args.threads} threads, {args.precision}, Linux {platform.release()}\n")
    print("| batch | opd, tokens/s | transformers, tokens/s | ratio | opd, MiB | transformers, MiB |")
    print("|---|---|---|---|---|---|")
    for batch in args.batches:
        rounds = [(ours(args, batch), theirs(args, batch)) for _ in range(args.rounds)]
        rates, memory = [], []
        for side in zip(*rounds):
            short, long = (min(times) for times in zip(*(times for times, _ in side)))
            rates.append(batch * args.new / (long - short))
            memory.append(max(mib for _, mib in side))
        print(
            f"| {batch} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[0] / rates[1]:.2f} "
            f"| {memory[0]:.0f} | {memory[1]:.0f} |",
            flush=True,
        )


main()
