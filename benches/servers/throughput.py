"""Scoring throughput of SGLang on a CPU and of `opd serve`, one server at a time, the same requests.

    throughput.py --python PYTHON --opd OPD NAME=MODEL_DIR ..

Called by run.sh. A round has fresh random tokens, so that no server profits from an earlier round, and
its requests are in flight together on kept-alive connections; bodies are made before the clock starts
and answers are read after it stops. A server runs `--rounds` rounds of each kind after one that is not
counted, in each of `--turns` turns; best and median are of all of them. Log-probs of both servers are
compared.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import time
import urllib.request
from datetime import date
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]

# Groups of samples: prompts, samples of each, tokens of a prompt, tokens of a sample.
KINDS = {
    "bundled": {"64 x 4 of 9 + 8 tokens": (64, 4, 9, 8)},
    "smollm2": {"8 x 4 of 100 + 100 tokens": (8, 4, 100, 100), "1 x 8 of 400 + 100 tokens": (1, 8, 400, 100)},
}


def sequences(vocab, kind, seed):
    prompts, samples, prompt, response = kind
    draw = random.Random(seed)
    ids = lambda n: [draw.randrange(2, vocab - 1) for _ in range(n)]
    groups = []
    for _ in range(prompts):
        head = ids(prompt)
        groups.append([head + ids(response) for _ in range(samples)])
    return groups


def bodies(groups, start, together):
    """A request for each group, or for each sequence, as slime sends them."""
    requests = groups if together else [sequence for group in groups for sequence in group]
    common = {
        "sampling_params": {"temperature": 1, "max_new_tokens": 0, "skip_special_tokens": False},
        "return_logprob": True,
        "logprob_start_len": start,
    }
    return [json.dumps({"input_ids": ids, **common}).encode() for ids in requests]


async def ask(url, first, requests):
    """Seconds and answers of `requests`, once the connection has carried `first`."""
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=64)
    timeout = aiohttp.ClientTimeout(total=3600)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def one(body):
            async with session.post(f"{url}/generate", data=body) as response:
                response.raise_for_status()
                return await response.read()

        await one(first)
        begin = time.perf_counter()
        answers = await asyncio.gather(*(one(body) for body in requests))
        return time.perf_counter() - begin, answers


def logprobs(answers):
    values = []
    for answer in map(json.loads, answers):
        for item in answer if isinstance(answer, list) else [answer]:
            values += [entry[0] for entry in item["meta_info"]["input_token_logprobs"][1:]]
    return values


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    def __init__(self, name, command, port):
        self.url = f"http://127.0.0.1:{port}"
        self.log = open(f"/tmp/opd-throughput-{name}.log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)

    def __enter__(self):
        for _ in range(1200):
            assert self.process.poll() is None, f"it ended; see {self.log.name}"
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=20) as answer:
                    if answer.status == 200:
                        return self.url
            except OSError:
                pass
            time.sleep(1)
        raise TimeoutError(f"not ready; see {self.log.name}")

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def server(name, model, args):
    port = free_port()
    if name == "SGLang":
        config = json.loads((Path(model) / "config.json").read_text())
        context = str(min(config["max_position_embeddings"], 2048))
        start = [ROOT / "tests/real_servers/start", "sglang", args.python, model, context, str(port)]
        return Server(name, [*start, "--max-total-tokens", "32768"], port)
    command = [args.opd, "serve", "--quiet", "--model", model, "--port", str(port)]
    command += ["--no-shared-prefixes"] * (name == "opd, sharing off")
    return Server("opd", command, port)


def cpu():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", required=True, help="of SGLang's environment")
    parser.add_argument("--opd", default=ROOT / "target/release/opd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL_DIR")
    args = parser.parse_args()
    print(f"{date.today()}, {cpu()}, Linux {platform.release()}, tokens of prompts and samples per second\n")
    print(f"{'model':8} {'request':9} {'batch':27} {'server':16} {'best':>9} {'median':>9} {'SGLang x':>9}")
    for name, model in (model.split("=", 1) for model in args.models):
        vocab = json.loads((Path(model) / "config.json").read_text())["vocab_size"]
        seconds, scores = {}, {}
        names = ["SGLang", "opd"] + ["opd, sharing off"] * (name != "bundled")
        cases = [(kind, together) for kind in KINDS[name] for together in (True, False)]
        for turn in range(args.turns):
            for who in names:
                with server(who, model, args) as url:
                    for kind, together in cases:
                        shape = KINDS[name][kind]
                        for round_ in range(-1, args.rounds):
                            groups = sequences(vocab, shape, 1000 * turn + round_)
                            # Tokens that no request has: a cache gains nothing by it.
                            other = sequences(vocab, shape, 500_000 + 1000 * turn + round_)
                            first = bodies(other, shape[2] - 1, together)[0]
                            requests = bodies(groups, shape[2] - 1, together)
                            took, answers = asyncio.run(ask(url, first, requests))
                            if round_ < 0:
                                scores.setdefault((kind, together, turn), {})[who] = logprobs(answers)
                            else:
                                seconds.setdefault((kind, together, who), []).append(took)
        for by_server in scores.values():
            there = by_server["SGLang"]
            for who, here in by_server.items():
                # In f32 the likely ones agree to 1e-4 and better; tokens at random are as unlikely as -40.
                off = max(abs(a - b) / max(10.0, abs(a)) for a, b in zip(there, here, strict=True))
                assert off < 1e-4, f"{who}: log-probs are off by {off:.1e} of their size"
        for kind, together in cases:
            prompts, samples, prompt, response = KINDS[name][kind]
            tokens = prompts * samples * (prompt + response)
            base = min(seconds[kind, together, "SGLang"])
            for who in names:
                took = seconds[kind, together, who]
                best, median = tokens / min(took), tokens / statistics.median(took)
                form = "group" if together else "sequence"
                ratio = base / min(took)
                print(f"{name:8} {form:9} {kind:27} {who:16} {best:9.0f} {median:9.0f} {ratio:9.2f}", flush=True)


main()
