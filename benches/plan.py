"""Peak memory of `opd train` beside the estimate of `opd plan`, for several jobs.

    python3 benches/plan.py [--opd target/release/opd] [--model DIR] [--only NAME]

Runs the bundled job and, with --model (a Hugging Face directory), jobs of that model; each for two
steps. The measured number is the kernel's: the largest resident set of the process (`ru_maxrss`,
which is VmHWM of /proc). Prints a Markdown table; exits with 1 if an estimate is more than 15% off.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

UNITS = {"MiB": 1, "GiB": 1024}
PARAGRAPH = "The memory of a machine is finite, and so every program that trains must plan. "

BUNDLED = {
    "bundled": "--eval-prompts 600 --validation-prompts 100",
    "bundled, LoRA 8": "--eval-prompts 600 --validation-prompts 100 --lora-rank 8 --lr 1e-3",
    "bundled, one micro-batch": "--eval-prompts 300 --validation-prompts 100 --token-budget 8192 "
    "--micro-batches-at-once 1",
}
BATCH = "--rollout-batch-size 4 --n-samples-per-prompt 4 --rollout-max-response-len 64"
TEACHER = "--use-opd --opd-type in-process --opd-teacher-load {model}"
START = "--use-opd --opd-type start --opd-teacher-prompt-template Briefly:{{prompt}}"
MODEL = {
    "full": f"{BATCH} {TEACHER} --kl-coef 0.1 --advantage-estimator reinforce_plus_plus "
    "--token-budget 4096",
    "full, small micro-batches": f"{BATCH} {TEACHER} --token-budget 400",
    "full, whole distributions": f"{BATCH} {TEACHER} --token-budget 1024 --loss jsd",
    "full, bf16": f"{BATCH} {TEACHER} --token-budget 4096 --precision bf16",
    "full, layers twice": f"{BATCH} {TEACHER} --token-budget 4096 --activation-checkpointing",
    "LoRA 16, own teacher": f"{BATCH} {START} --token-budget 4096 --lora-rank 16 --lr 1e-4",
    "LoRA 16, layers twice": f"{BATCH} {START} --token-budget 4096 --lora-rank 16 --lr 1e-4 "
    "--activation-checkpointing",
}


def mebibytes(text):
    number, unit = re.search(r"^peak +([\d.]+) (\w+)$", text, re.M).groups()
    return float(number) * UNITS[unit]


def measured(command):
    """MiB of the largest resident set."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: {errors.read()}")
    return usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--opd", default=str(Path(__file__).parent / "../target/release/opd"))
    parser.add_argument("--model")
    parser.add_argument("--only", help="the job of this name")
    args = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as work:
        prompts = Path(work) / "prompts.jsonl"
        rows = [{"prompt": PARAGRAPH * (3 + i % 3) + f"Example {i}:", "label": "x"} for i in range(16)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        jobs = dict(BUNDLED)
        if args.model:
            common = f"--hf-checkpoint {args.model} --prompt-data {prompts} --eval-interval 0"
            jobs |= {name: f"{common} {flags.format(model=args.model)}" for name, flags in MODEL.items()}
        print("| job | estimate, MiB | measured, MiB | ratio |\n|---|---|---|---|")
        for i, (name, flags) in enumerate(jobs.items()):
            if args.only and args.only != name:
                continue
            words = f"{flags} --steps 2 --quiet".split()
            plan = subprocess.run([args.opd, "plan", *words], capture_output=True, text=True)
            if plan.returncode:
                sys.exit(plan.stderr)
            estimate = mebibytes(plan.stdout)
            peak = measured([args.opd, "train", *words, "--output", f"{work}/run-{i}"])
            worst = max(worst, abs(estimate / peak - 1))
            print(f"| {name} | {estimate:.0f} | {peak:.0f} | {estimate / peak:.2f} |", flush=True)
            if os.environ.get("OPD_PLAN_PARTS"):
                print(plan.stdout)
    print(f"\nfarthest off: {100 * worst:.0f}%")
    sys.exit(worst > 0.15)


if __name__ == "__main__":
    main()
