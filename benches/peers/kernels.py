"""The PyTorch twin of one kernel of kernels.rs, timed on request: kernels.py CASE SIZE-AS-JSON THREADS.

Speaks as kernels.rs does: the memory that a first run took beyond its inputs, then for each line on the
input the seconds of the fastest of so many runs. Memory is what the resident set peaked at.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F


def variable(*dims):
    return torch.empty(dims).uniform_(-1, 1).requires_grad_()


def ids(size, *dims):
    return torch.randint(size["vocab"], dims)


def backward(value, *leaves):
    for leaf in leaves:
        leaf.grad = None
    value.sum().backward()


def tokens(size):
    return sum(size["lengths"])


def logits(size):
    return torch.empty(tokens(size), size["vocab"]).uniform_(-5, 5).requires_grad_()


def model(size):
    return variable(tokens(size), size["width"]), variable(size["vocab"], size["width"])


def gathered(logits, ids):
    return torch.log_softmax(logits, -1).gather(1, ids)


def without_graph(run):
    def detached():
        with torch.no_grad():
            run()

    return detached


def with_entropy(logits, ids):
    log_p = torch.log_softmax(logits, -1)
    return log_p.gather(1, ids), -(log_p.exp() * log_p).sum(-1)


def with_top(logits, ids):
    """As scorers have it: log-probs of the token, the likeliest id and the 8 likeliest."""
    log_p = torch.log_softmax(logits, -1)
    return log_p.gather(1, ids), log_p.argmax(-1), log_p.topk(8, -1)


def capped(logits, ids):
    return gathered(torch.tanh(logits / 30) * 30, ids)


def scores(size, of, train=False):
    x, i = logits(size), ids(size, tokens(size), 1)
    return (lambda: backward(of(x, i), x)) if train else without_graph(lambda: of(x, i))


def linear_logprobs(size, train, per_token=1):
    (hidden, head), i = model(size), ids(size, tokens(size), per_token)
    score = lambda: gathered(hidden @ head.T, i)
    return (lambda: backward(score(), hidden, head)) if train else without_graph(score)


def reverse_kl(p, q):
    return (p.exp() * (p - q)).sum(-1)


def forward_kl(p, q):
    return (q.exp() * (q - p)).sum(-1)


def jsd(p, q):
    m = torch.logsumexp(torch.stack([p, q]), 0) - torch.log(torch.tensor(2.0))
    return 0.5 * ((q.exp() * (q - m)).sum(-1) + (p.exp() * (p - m)).sum(-1))


def total_variation(p, q):
    return 0.5 * (p.exp() - q.exp()).abs().sum(-1)


def divergence(size, measure):
    x, y = logits(size), logits(size).detach()
    return lambda: backward(measure(torch.log_softmax(x, -1), torch.log_softmax(y, -1)), x)


def linear_divergence(size, measure):
    (hidden, head), theirs = model(size), [each.detach() for each in model(size)]

    def run():
        p, q = torch.log_softmax(hidden @ head.T, -1), torch.log_softmax(theirs[0] @ theirs[1].T, -1)
        backward(measure(p, q), hidden, head)

    return run


def rms_norm(size, train):
    x, weight, dy = variable(tokens(size), size["width"]), variable(size["width"]), variable(tokens(size), size["width"])
    norm = lambda: F.rms_norm(x, (size["width"],), weight, 1e-6)
    if not train:
        return without_graph(norm)

    def run():
        x.grad = weight.grad = None
        norm().backward(dy.detach())

    return run


def add_rms_norm(size):
    x, delta, weight = variable(tokens(size), size["width"]), variable(tokens(size), size["width"]), variable(size["width"])
    return without_graph(lambda: F.rms_norm(x + delta, (size["width"],), weight, 1e-6))


def rotary(size, train):
    """As transformers does it: the values' heads pass."""
    heads, dim = size["heads"] + size["kv_heads"], size["head_dim"]
    qkv = variable(tokens(size), heads + size["kv_heads"], dim)
    positions = torch.cat([torch.arange(length) for length in size["lengths"]])
    angles = positions[:, None] * 1e4 ** (-torch.arange(0, dim, 2) / dim)
    cos, sin = (torch.cat([f(angles)] * 2, -1)[:, None] for f in (torch.cos, torch.sin))
    dy = torch.ones(tokens(size), heads, dim)

    def turn():
        x = qkv[:, :heads]
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        return x * cos + torch.cat([-b, a], -1) * sin

    def run():
        qkv.grad = None
        turn().backward(dy)

    return run if train else without_graph(turn)


def swiglu(size, train):
    x, dy = variable(tokens(size), 2 * size["inner"]), torch.ones(tokens(size), size["inner"])

    def forward():
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def run():
        x.grad = None
        forward().backward(dy)

    return run if train else without_graph(forward)


def embedding(size, train):
    table, i = variable(size["vocab"], size["width"]), ids(size, tokens(size))
    if not train:
        return without_graph(lambda: F.embedding(i, table))
    sums, rows = torch.zeros_like(table), variable(tokens(size), size["width"])
    return without_graph(lambda: sums.index_add_(0, i, rows))


def attention(size, train):
    """Over the padded batch: right padding needs no mask under a causal one."""
    batch, longest, dim = len(size["lengths"]), max(size["lengths"]), size["head_dim"]
    q = variable(batch, size["heads"], longest, dim)
    k, v = (variable(batch, size["kv_heads"], longest, dim) for _ in range(2))
    dout = torch.ones_like(q)
    grouped = size["heads"] != size["kv_heads"]
    attend = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

    def run():
        q.grad = k.grad = v.grad = None
        attend().backward(dout)

    return run if train else without_graph(attend)


def adamw(size):
    parameter = variable(size["vocab"], size["width"])
    parameter.grad = torch.empty_like(parameter).uniform_(-0.1, 0.1)
    return torch.optim.AdamW([parameter], lr=1e-4, weight_decay=0.01, fused=True).step


def sum_of_squares(size):
    x = variable(size["vocab"], size["width"])
    return without_graph(lambda: torch.linalg.vector_norm(x))


def scans(size, gae):
    """A loop over the padded batch's columns, as peers have it."""
    batch, longest = len(size["lengths"]), max(size["lengths"])
    rewards, values = torch.rand(batch, longest), torch.rand(batch, longest)
    decay = 0.99 * 0.95 if gae else 0.99

    def run():
        last, steps = torch.zeros(batch), []
        for t in reversed(range(longest)):
            delta = rewards[:, t]
            if gae:
                following = values[:, t + 1] if t + 1 < longest else 0.0
                delta = delta + 0.99 * following - values[:, t]
            last = delta + decay * last
            steps.append(last)
        sums = torch.stack(steps[::-1], 1)
        return sums + values if gae else sums

    return without_graph(run)


CASES = {
    "token_logprobs/forward": lambda size: scores(size, gathered),
    "token_logprobs/train": lambda size: scores(size, gathered, True),
    "token_entropy/forward": lambda size: scores(size, with_entropy),
    "token_top_8/forward": lambda size: scores(size, with_top),
    "token_soft_cap/forward": lambda size: scores(size, capped),
    "token_soft_cap/train": lambda size: scores(size, capped, True),
    "row_loss/train": lambda size: scores(size, gathered, True),
    "linear_token_logprobs/forward": lambda size: linear_logprobs(size, False),
    "linear_token_logprobs/train": lambda size: linear_logprobs(size, True),
    "linear_row_loss/train": lambda size: linear_logprobs(size, True),
    "linear_support_logprobs/train": lambda size: linear_logprobs(size, True, 32),
    "reverse_kl/train": lambda size: divergence(size, reverse_kl),
    "forward_kl/train": lambda size: divergence(size, forward_kl),
    "jsd/train": lambda size: divergence(size, jsd),
    "linear_reverse_kl/train": lambda size: linear_divergence(size, reverse_kl),
    "linear_forward_kl/train": lambda size: linear_divergence(size, forward_kl),
    "linear_jsd/train": lambda size: linear_divergence(size, jsd),
    "linear_total_variation/train": lambda size: linear_divergence(size, total_variation),
    "rms_norm/forward": lambda size: rms_norm(size, False),
    "rms_norm/train": lambda size: rms_norm(size, True),
    "add_rms_norm/forward": add_rms_norm,
    "rotary/forward": lambda size: rotary(size, False),
    "rotary/train": lambda size: rotary(size, True),
    "swiglu/forward": lambda size: swiglu(size, False),
    "swiglu/train": lambda size: swiglu(size, True),
    "embedding/forward": lambda size: embedding(size, False),
    "embedding/backward": lambda size: embedding(size, True),
    "attention/forward": lambda size: attention(size, False),
    "attention/train": lambda size: attention(size, True),
    "adamw": adamw,
    "sum_of_squares": sum_of_squares,
    "discounted_sums": lambda size: scans(size, False),
    "advantages_and_returns": lambda size: scans(size, True),
}


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main():
    name, size, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    run = CASES[name](json.loads(size))
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    run()
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"extra_bytes": extra, "version": torch.__version__}), flush=True)
    for line in sys.stdin:
        best = float("inf")
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
        print(json.dumps({"seconds": best}), flush=True)


if __name__ == "__main__":
    main()
