"""Runs `opd train` and pocket_torch.py in turn on one machine and prints the ratio of their times.

    benches/peers/run.sh --compare [--runs 3] [--threads 2] [--steps 400] [--compile] [--seed 0]

Both do the same recipe from the same weights on the same prompts. seconds.training (rollout, scoring
and update) of each run is listed; the ratio is that of the two minima. Keep the machine quiet.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPD = HERE.parents[1] / "target" / "release" / "opd"


def ours(args, seed, directory):
    command = [OPD, "train", "--output", directory, "--seed", str(seed), "--threads", str(args.threads), "--quiet"]
    subprocess.run(command, check=True)
    return json.loads((Path(directory) / "summary.json").read_text())


def torch(args, seed, directory):
    output = Path(directory) / "torch.json"
    command = [sys.executable, HERE / "pocket_torch.py", "--student", args.student, "--teacher", args.teacher]
    command += ["--data", args.data, "--steps", str(args.steps), "--threads", str(args.threads)]
    command += ["--seed", str(seed), "--output", output] + ["--compile"] * args.compile
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(output.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in "student", "teacher", "data":
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; each run adds 1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400, help="of PyTorch; ours takes its default")
    parser.add_argument("--compile", action="store_true", help="let PyTorch use torch.compile")
    args = parser.parse_args()

    best = {}
    print(f"{'':8} {'seed':>4} {'seconds':>8} {'tokens':>8} {'before':>7} {'after':>7} {'teacher':>7}")
    for seed in range(args.seed, args.seed + args.runs):
        for name, job in ("opd", ours), ("PyTorch", torch):
            with tempfile.TemporaryDirectory() as directory:
                summary = job(args, seed, str(Path(directory) / "run") if name == "opd" else directory)
            seconds, passed = summary["seconds"]["training"], summary["pass_at_1"]
            best[name] = min(best.get(name, seconds), seconds)
            shares = " ".join(f"{passed[key]:7.2%}" for key in ("before", "after", "teacher"))
            print(f"{name:8} {seed:4} {seconds:8.1f} {summary['generated_tokens']:8} {shares}", flush=True)
    print(f"PyTorch / opd: {best['PyTorch'] / best['opd']:.2f} times the seconds of training")


if __name__ == "__main__":
    main()
