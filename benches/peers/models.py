"""Generation, scoring and training of one model by `opd`, transformers and llama.cpp in turn, as tables in Markdown.

    benches/peers/run.sh --models MODEL_DIR [--gguf FILE] [--only REGEX] [--precisions f32 bf16]
        [--rounds 3] [--threads 2]

MODEL_DIR is a Hugging Face directory; --gguf, the same model as GGUF of any kind, adds llama.cpp in f32 and
f16. Each side loads the model in a process of its own and then does the job when told to: ours, transformers',
llama.cpp's, ours, ... Rates are of the fastest round after one that does not count. Prompts and sequences are
random ids; generation counts the new tokens and takes the time of the prompts too; training counts the tokens
of all rows, without padding. Memory is the highest resident set less that of the program before it loads
the model; `beyond state` is what is left without weights, masters, gradients and moments. In bf16,
transformers has weights, activations and products in bf16, `opd` the products of its layers and what it
holds of them.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from ratios import processor

HERE = Path(__file__).resolve().parent
OURS = HERE.parents[1] / "target" / "release" / "examples" / "models"
MIB = 2**20


class Side:
    def __init__(self, name, command, threads, state=0):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.name, self.state = name, state
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )
        self.program = self.read()["program"]
        self.seconds, self.peak = [], 0.0

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {self.process.wait()}: {self.process.args}")
        return json.loads(line)

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = self.read()
        self.seconds.append(said["seconds"])
        self.peak = said["peak"] - self.program

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def best(self):
        return min(self.seconds[1:])


class Model:
    def __init__(self, directory):
        self.directory = directory
        self.vocab = json.loads((directory / "config.json").read_text())["vocab_size"]
        self.parameters = 0
        for file in directory.glob("*.safetensors"):
            with open(file, "rb") as opened:
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            header.pop("__metadata__", None)
            for tensor in header.values():
                size = 1
                for dim in tensor["shape"]:
                    size *= dim
                self.parameters += size

    def rows(self, seed, lengths):
        draw = random.Random(seed)
        return [[draw.randrange(100, self.vocab - 100) for _ in range(length)] for length in lengths]


def jobs(model):
    """Name, job, tokens that count."""
    for batch in (1, 8, 32):
        yield f"generate, batch {batch}, 64 + 64", {"generate": model.rows(batch, [64] * batch), "new": 64}, 64 * batch
    yield "score 4 x 512", {"score": model.rows(4, [512] * 4)}, 4 * 511
    ragged = [256, 64, 192, 128, 224, 96, 160, 240]
    for name, lengths in (("train 2 x 256", [256] * 2), ("train 8 x 256 ragged", ragged)):
        job = {"train": model.rows(2, lengths), "prompt": [length // 4 for length in lengths]}
        yield name, job, sum(lengths)


def state(model, job, side, precision):
    """MiB of weights and, in training, of masters, gradients and moments."""
    training = "train" in job
    bytes_each = 16 if training else 4
    if precision == "bf16" and not training:
        bytes_each = 2
    if precision == "bf16" and training and side == "transformers":
        bytes_each = 2 + 16
    return model.parameters * bytes_each / MIB


def in_turn(sides, rounds):
    for _ in range(1 + rounds):
        for side in sides:
            side.turn()
    for side in sides:
        side.close()


def compared(model, args, ggufs):
    print("| job | precision | by | tokens/s | opd, times faster | memory, MiB | beyond state, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, job, tokens in jobs(model):
        if not re.search(args.only, name):
            continue
        for precision in args.precisions:
            text = json.dumps(job)
            peer = [sys.executable, HERE / "models_torch.py", model.directory, text, precision]
            commands = [("opd", [OURS, model.directory, text, precision]), ("transformers", peer)]
            if "generate" in job:
                for kind, file in ggufs.items():
                    if kind == "f32" or precision == "bf16":
                        commands.append((f"llama.cpp {kind}", [sys.executable, HERE / "models_llama.py", file, text]))
            sides = [
                Side(by, command, args.threads, state(model, job, by, precision)) for by, command in commands
            ]
            in_turn(sides, args.rounds)
            for side in sides:
                times = "" if side is sides[0] else f"**{side.best() / sides[0].best():.2f}**"
                beyond = "" if side.name.startswith("llama") else f"{side.peak - side.state:,.0f}"
                print(
                    f"| {name} | {precision} | {side.name} | {tokens / side.best():,.0f} | {times} "
                    f"| {side.peak:,.0f} | {beyond} |",
                    flush=True,
                )


def shared(model, args):
    """A group's samples with one prompt, and with a prompt each."""
    print("\n| 8 samples of 64 tokens, prompts of 256 | precision | one prompt, s | a prompt each, s | times faster |")
    print("|---|---|---|---|---|")
    prompts = model.rows(9, [256] * 8)
    for precision in args.precisions:
        sides = [
            Side("opd", [OURS, model.directory, json.dumps({"generate": rows, "new": 64}), precision], args.threads)
            for rows in ([prompts[0]] * 8, prompts)
        ]
        in_turn(sides, args.rounds)
        group, each = (side.best() for side in sides)
        print(f"| generate | {precision} | {group:.2f} | {each:.2f} | **{each / group:.2f}** |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=lambda text: Model(Path(text)))
    parser.add_argument("--gguf")
    parser.add_argument("--only", default="", help="regular expression over the names of jobs")
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"{date.today()}, {processor()}, {args.threads} threads:\n", flush=True)
    with tempfile.TemporaryDirectory() as work:
        ggufs = {}
        for kind in ("f32", "f16") if args.gguf else ():
            ggufs[kind] = Path(work) / f"{kind}.gguf"
            command = [sys.executable, HERE / "models_llama.py", "--convert", args.gguf, ggufs[kind], kind]
            environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
            subprocess.run([str(part) for part in command], check=True, capture_output=True, env=environment)
        compared(args.model, args, ggufs)
    if re.search(args.only, "group"):
        shared(args.model, args)


if __name__ == "__main__":
    main()
