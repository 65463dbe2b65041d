"""Times of PyTorch (eager and compiled), TRL, Liger and Cut-Cross-Entropy for the work of opd-kernels, as
JSON lines: best and median of CUDA-event times, and the peak of memory above what was there before.

    python peers.py [--quick] [--peers DIR]

DIR holds the peers' packages, unpacked: liger_kernel, cut_cross_entropy, and TRL's trl/kernels. A peer that
cannot be imported or fails is a line with its error."""
import argparse
import json
import statistics
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
parser.add_argument("--peers", default="")
options = parser.parse_args()
sys.path.insert(0, options.peers)

import torch

ROWS, VOCAB, WIDTH = (512, 8192, 256) if options.quick else (8192, 151936, 4096)
GPU = torch.device("cuda")
torch.manual_seed(0)


def time(name, work):
    try:
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(10):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        line = {"ms": min(times), "median_ms": statistics.median(times), "peak_mib": peak}
    except Exception as error:
        line = {"error": f"{type(error).__name__}: {error}"[:200]}
    print(json.dumps({"peer": name, **line}), flush=True)


def gathered(logits, ids):
    return torch.log_softmax(logits.float(), -1).gather(-1, ids[:, None]).squeeze(-1)


def backward(of, *leaves):
    for leaf in leaves:
        leaf.grad = None
    of.sum().backward()


def from_logits():
    logits = (torch.randn(ROWS, VOCAB, device=GPU, dtype=torch.bfloat16) * 3).requires_grad_()
    still = logits.detach()
    ids = torch.randint(VOCAB, (ROWS,), device=GPU)
    for name, f in [("torch", gathered), ("torch.compile", torch.compile(gathered))]:
        time(f"{name}: log-probs forward", lambda: f(still, ids))
        time(f"{name}: log-probs forward + backward", lambda: backward(f(logits, ids), logits))

    def trl():
        from trl.kernels.logprob_entropy import selective_log_softmax_and_entropy
        return selective_log_softmax_and_entropy(still, ids)

    def liger():
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction
        copy = still.clone().requires_grad_()
        backward(LigerCrossEntropyFunction.apply(copy, ids, None)[0], copy)

    time("TRL: log-probs and entropy forward", trl)
    time("Liger: cross-entropy forward + backward, with a copy of the logits", liger)

    teacher = torch.randn_like(still) * 3

    def kl(student):
        p, q = torch.log_softmax(student.float(), -1), torch.log_softmax(teacher.float(), -1)
        return (p.exp() * (p - q)).sum(-1)

    time("torch: reverse KL forward + backward", lambda: backward(kl(logits), logits))
    fast = torch.compile(kl)
    time("torch.compile: reverse KL forward + backward", lambda: backward(fast(logits), logits))


def from_hidden():
    hidden = (torch.randn(ROWS, WIDTH, device=GPU, dtype=torch.bfloat16) * 0.1).requires_grad_()
    head = (torch.randn(VOCAB, WIDTH, device=GPU, dtype=torch.bfloat16) * 0.1).requires_grad_()
    ids = torch.randint(VOCAB, (ROWS,), device=GPU)
    leaves = (hidden, head)
    time("torch: linear log-probs", lambda: backward(gathered(hidden @ head.t(), ids), *leaves))

    def liger():
        from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction
        backward(LigerFusedLinearCrossEntropyFunction.apply(hidden, head, ids)[0], *leaves)

    def cce(**settings):
        from cut_cross_entropy import linear_cross_entropy
        backward(linear_cross_entropy(hidden, head, ids, **settings), *leaves)

    time("Liger: linear cross-entropy", liger)
    time("Cut-Cross-Entropy", cce)
    # Its default skips nearly every block of random logits.
    time("Cut-Cross-Entropy, nothing skipped", lambda: cce(filter_eps=None))

    def products():
        logits = hidden.detach() @ head.detach().t()
        return logits @ head.detach(), logits.t() @ hidden.detach()

    time("torch: the three bare products", products)


print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                  "rows": ROWS, "vocab": VOCAB, "width": WIDTH}))
from_logits()
torch.cuda.empty_cache()
from_hidden()
