"""Times kernels and their PyTorch twins in turn and prints a table of ratios in Markdown.

    benches/peers/run.sh --kernels [--sizes 512x49152 ragged] [--cases REGEX] [--rounds 8] [--threads 2]

Each of the two makes its inputs in a process of its own and then runs when told to: ours, PyTorch's, ours, ...
Times are the minima over all rounds; `beyond inputs` is the peak of what a first run allocated (ours) or what
the resident set grew by (PyTorch's). Keep the machine quiet.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import kernels

HERE = Path(__file__).resolve().parent
OURS = HERE.parents[1] / "target" / "release" / "examples" / "kernels"
# Runs of one turn add up to about this many seconds, a case's rounds to at most so many.
TURN, CASE = 0.2, 40.0


class Side:
    def __init__(self, command, threads):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.start = self.read()
        self.best = float("inf")
        self.runs = 1

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[:3]} ended with {self.process.wait()}")
        return json.loads(line)

    def turn(self):
        self.process.stdin.write(f"{self.runs}\n")
        self.process.stdin.flush()
        seconds = self.read()["seconds"]
        self.best = min(self.best, seconds)
        self.runs = max(1, min(1000, round(TURN / seconds)))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(name, size, args):
    """Extra bytes and best seconds of ours and of PyTorch's; of ours alone where there is no twin."""
    sides = [Side([OURS, name, size["name"]], args.threads)]
    if name in args.twins:
        sides.append(Side([sys.executable, HERE / "kernels.py", name, json.dumps(size), str(args.threads)], args.threads))
    deadline = time.monotonic() + CASE
    for done in range(args.rounds):
        for side in sides:
            side.turn()
        if done >= 1 and time.monotonic() > deadline:
            break
    for side in sides:
        side.close()
    args.version = sides[-1].start.get("version", args.version)
    return [(side.start["extra_bytes"], side.best) for side in sides]


def milliseconds(seconds):
    return f"{seconds * 1e3:,.3g}" if seconds < 1 else f"{seconds * 1e3:,.0f}"


def mebibytes(count):
    return f"{count / 2**20:,.1f}"


def row(name, size, results):
    (extra, seconds), *theirs = results
    cells = [f"`{name}`", size["name"], milliseconds(seconds)]
    if theirs:
        (their_extra, their_seconds) = theirs[0]
        cells += [milliseconds(their_seconds), f"**{their_seconds / seconds:.2f}**"]
        cells += [mebibytes(extra), mebibytes(their_extra)]
    else:
        cells += ["", "", mebibytes(extra), ""]
    return "| " + " | ".join(cells) + " |"


def processor():
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.processor()}, {len(names)} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64x320", "512x49152", "ragged"])
    parser.add_argument("--cases", default="", help="regular expression over the names of cases")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    known = json.loads(subprocess.check_output([OURS, "--list"]))
    names = [size["name"] for size in known["sizes"]]
    for wanted in args.sizes:
        if wanted not in names:
            parser.error(f"no size {wanted!r}; there are {', '.join(names)}")
    args.twins, args.version = set(kernels.CASES), ""

    lines = []
    for size in (size for wanted in args.sizes for size in known["sizes"] if size["name"] == wanted):
        for name in known["cases"]:
            if re.search(args.cases, name):
                lines.append(row(name, size, compare(name, size, args)))
                print(lines[-1], file=sys.stderr, flush=True)
    print(f"{date.today()}, {processor()}, {args.threads} threads, PyTorch {args.version}:\n")
    print(f"    benches/peers/run.sh --kernels {' '.join(sys.argv[1:])}\n")
    print("| case | size | ours, ms | PyTorch, ms | times faster | ours, MiB beyond inputs | PyTorch, MiB beyond inputs |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
