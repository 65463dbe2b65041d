"""Errors of PyTorch on the CPU against float64, on the inputs that main.rs makes: writes pytorch.json.

    python pytorch.py > pytorch.json        (torch 2.15, as benches/peers/requirements.txt has it)

Every case is written as PyTorch's users write it in that dtype; float64 of the same formula, on the same
values, is the truth. Inputs are numbers that the dtype holds, made by a hash of 32-bit integers.
"""

import json
import math

import numpy
import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
EPS = 1e-5


def values(seed, dims, dtype, scale=2.0):
    """Numbers from -scale to scale (a power of 2): of 24 bits for f32, else of 8."""
    n = math.prod(dims)
    h = numpy.arange(n, dtype=numpy.uint64) * 0x9E3779B1 + seed * 0x85EBCA77
    mask = numpy.uint64(0xFFFFFFFF)
    h &= mask
    h ^= h >> 16
    h = h * 0x7FEB352D & mask
    h ^= h >> 15
    h = h * 0x846CA68B & mask
    h ^= h >> 16
    if dtype == "f32":
        x = ((h >> 8).astype(numpy.float64) - 2.0**23) / 2.0**23
    else:
        x = ((h >> 24).astype(numpy.float64) - 128.0) / 128.0
    return torch.from_numpy(x * scale).reshape(dims)


def rotate(qkv, query, key, cos, sin, heads, kv_heads, dim):
    x = qkv.reshape(-1, heads + 2 * kv_heads, dim)
    q, k, v = x.split([heads, kv_heads, kv_heads], dim=1)
    q, k = F.rms_norm(q, (dim,), query, EPS), F.rms_norm(k, (dim,), key, EPS)
    cos, sin = torch.cat([cos, cos], -1)[:, None], torch.cat([sin, sin], -1)[:, None]

    def turned(x):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    return torch.cat([turned(q), turned(k), v], 1)


def attend(qkv, heads, kv_heads):
    q, k, v = (x.transpose(0, 1)[None] for x in qkv.split([heads, kv_heads, kv_heads], dim=1))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out[0].transpose(0, 1)


def statistics(logits, ids):
    log_p = F.log_softmax(logits, -1)
    logprobs = log_p.gather(1, ids[:, None]).squeeze(1)
    return logprobs, torch.logsumexp(logits, -1), -(log_p.exp() * log_p).sum(-1)


def divergence(kind, student, teacher):
    p, q = F.log_softmax(student, -1), F.log_softmax(teacher, -1)

    def kl(a, b):  # KL(a || b)
        return F.kl_div(b, a, reduction="none", log_target=True).sum(-1)

    def mixture(weight, a, b):
        return torch.logaddexp(a + math.log(weight), b + math.log(1 - weight))

    if kind == "forward_kl":
        return kl(q, p)
    if kind == "reverse_kl":
        return kl(p, q)
    if kind == "jsd":
        m = mixture(0.5, q, p)
        return (kl(q, m) + kl(p, m)) / 2
    if kind == "skew_forward_kl":
        return kl(q, mixture(0.1, q, p))
    return kl(p, mixture(0.1, p, q))


def discounted(x, discount):
    out, total = torch.empty_like(x), torch.zeros((), dtype=x.dtype)
    for t in reversed(range(x.numel())):
        total = x[t] + discount * total
        out[t] = total
    return out


def adamw(p, g, m, v):
    p = p.clone().requires_grad_()
    p.grad = g.to(p.dtype)
    optimizer = torch.optim.AdamW([p], lr=3e-2, betas=(0.9, 0.98), eps=1e-3, weight_decay=0.1)
    state = {"step": torch.tensor(2.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.state[p] = state
    optimizer.step()
    return p.detach(), state["exp_avg"], state["exp_avg_sq"]


CASES = []


class Case:
    def __init__(self, name, dtype):
        self.name, self.dtype = name, dtype

    def values(self, *args, **kwargs):
        return values(*args, self.dtype, **kwargs)

    def record(self, output, got, truth):
        error = (got.double() - truth).abs()
        CASES.append(
            {
                "op": self.name,
                "dtype": self.dtype,
                "output": output,
                "max": error.max().item(),
                "rms": error.square().mean().sqrt().item(),
            }
        )

    def run(self, forward, inputs, upstream, outputs, gradients):
        """Forward and backward in the dtype and in float64; `None` has no gradient of its own."""

        def both(dtype):
            given = [x.to(dtype).requires_grad_(name is not None) for x, name in zip(inputs, gradients)]
            out = forward(*given)
            out = out if isinstance(out, tuple) else (out,)
            loss = sum((o * u.to(o.dtype)).sum() for o, u in zip(out, upstream))
            wanted = [x for x, name in zip(given, gradients) if name is not None]
            return list(out), list(torch.autograd.grad(loss, wanted))

        (got, got_gradients), (truth, gradients_truth) = both(DTYPES[self.dtype]), both(torch.float64)
        names = [name for name in gradients if name is not None]
        for output, got, truth in zip(outputs + names, got + got_gradients, truth + gradients_truth):
            self.record(output, got.detach(), truth.detach())


def main():
    for dtype in DTYPES:
        case = Case("rms_norm", dtype)
        case.run(
            lambda x, w: F.rms_norm(x, (512,), w, EPS),
            [case.values(1, (96, 512)), case.values(2, (512,))],
            [case.values(3, (96, 512))],
            ["y"],
            ["dx", "dweight"],
        )
        case = Case("swiglu", dtype)
        case.run(
            lambda x: F.silu(x[:, :512]) * x[:, 512:],
            [case.values(4, (96, 1024), scale=4.0)],
            [case.values(5, (96, 512))],
            ["y"],
            ["dx"],
        )
        case = Case("rotate_heads", dtype)
        angles = torch.arange(64).double()[:, None] * 0.75 ** torch.arange(32).double()
        table = [x.to(DTYPES[dtype]).double() for x in (angles.cos(), angles.sin())]
        case.run(
            lambda x, q, k, cos, sin: rotate(x, q, k, cos, sin, 4, 2, 64),
            [case.values(6, (64, 512)), case.values(7, (64,)), case.values(8, (64,)), *table],
            [case.values(9, (64, 8, 64))],
            ["y"],
            ["dx", "dquery", "dkey", None, None],
        )
        case = Case("attention", dtype)
        case.run(
            lambda x: attend(x, 4, 2),
            [case.values(10, (160, 8, 64))],
            [case.values(11, (160, 4, 64))],
            ["y"],
            ["dx"],
        )
        case = Case("linear", dtype)
        case.run(
            F.linear,
            [case.values(12, (200, 1024)), case.values(13, (160, 1024))],
            [case.values(14, (200, 160))],
            ["y"],
            ["dx", "dweight"],
        )
        case = Case("embedding", dtype)
        ids = torch.arange(600) * 7 % 13
        case.run(
            lambda w: F.embedding(ids, w),
            [case.values(15, (13, 512))],
            [case.values(16, (600, 512))],
            ["y"],
            ["dweight"],
        )
        case = Case("token_logprobs", dtype)
        ids = torch.arange(64) * 61 % 4096
        case.run(
            lambda x: statistics(x, ids),
            [case.values(17, (64, 4096), scale=8.0)],
            [case.values(18, (64,)), case.values(19, (64,)), case.values(20, (64,))],
            ["logprobs", "lse", "entropy"],
            ["dlogits"],
        )
        for kind in ["forward_kl", "reverse_kl", "jsd", "skew_forward_kl", "skew_reverse_kl"]:
            case = Case(kind, dtype)
            case.run(
                lambda x, y: divergence(kind, x, y),
                [case.values(21, (64, 4096), scale=8.0), case.values(22, (64, 4096), scale=8.0)],
                [case.values(23, (64,))],
                ["divergence"],
                ["dlogits", None],
            )
        case = Case("linear_token_logprobs", dtype)
        ids = torch.arange(80) * 61 % 2048
        hidden, head = case.values(24, (80, 256)), case.values(25, (2048, 256), scale=0.25)
        case.run(
            lambda x, w: statistics(F.linear(x, w), ids),
            [hidden, head],
            [case.values(26, (80,)), case.values(27, (80,)), case.values(28, (80,))],
            ["logprobs", "lse", "entropy"],
            ["dhidden", "dhead"],
        )
        case = Case("linear_row_loss", dtype)
        case.run(
            lambda x, w: F.cross_entropy(F.linear(x, w), ids, reduction="none"),
            [hidden, head],
            [torch.full((80,), 1 / 64)],
            ["loss"],
            ["dhidden", "dhead"],
        )
        case = Case("linear_divergence", dtype)
        theirs = case.values(29, (80, 256)), case.values(30, (2048, 256), scale=0.25)
        case.run(
            lambda x, w, y, v: divergence("reverse_kl", F.linear(x, w), F.linear(y, v)),
            [hidden, head, *theirs],
            [case.values(26, (80,))],
            ["divergence"],
            ["dhidden", "dhead", None, None],
        )
        case = Case("linear_support_logprobs", dtype)
        several = (torch.arange(240) * 61 % 2048).reshape(80, 3)
        case.run(
            lambda x, w: F.log_softmax(F.linear(x, w), -1).gather(1, several),
            [hidden, head],
            [case.values(31, (80, 3))],
            ["logprobs"],
            ["dhidden", "dhead"],
        )
        case = Case("linear_total_variation", dtype)
        with torch.no_grad():
            given = [hidden, head, *theirs]

            def distance(dtype):
                x, w, y, v = (x.to(dtype) for x in given)
                return (F.softmax(F.linear(x, w), -1) - F.softmax(F.linear(y, v), -1)).abs().sum(-1) / 2

            case.record("distance", distance(DTYPES[dtype]), distance(torch.float64))
        case = Case("sum_of_squares", dtype)
        parts = case.values(32, (64, 3000))
        squares = [x.to(DTYPES[dtype]).square().sum().double() for x in parts]
        case.record("sums", torch.stack(squares), parts.square().sum(-1))
        case = Case("adamw", dtype)
        p, m, v = (values(seed, (20000,), "f32") for seed in (33, 34, 35))
        g, v = case.values(36, (20000,)), v.square().float().double()
        got = adamw(p.float(), g.float(), m.float(), v.float())
        for output, got, truth in zip(["p", "m", "v"], got, adamw(p, g, m, v)):
            case.record(output, got, truth)
    case = Case("discounted_sums", "f32")
    x = case.values(37, (500,))
    case.record("sums", discounted(x.float(), 0.97), discounted(x, 0.97))
    case = Case("advantages", "f32")
    r, v = case.values(38, (500,)), case.values(39, (500,))
    following = torch.cat([v[1:], torch.zeros(1, dtype=torch.float64)])

    def advantages(dtype):
        delta = r.to(dtype) + 0.97 * following.to(dtype) - v.to(dtype)
        return discounted(delta, 0.97 * 0.95)

    case.record("advantages", advantages(torch.float32), advantages(torch.float64))

    print(f'{{"torch": {json.dumps(torch.__version__)}, "cases": [')
    print(",\n".join("  " + json.dumps(case) for case in CASES))
    print("]}")


torch.manual_seed(0)
main()
