"""Writes scores.json: token scores and their gradients as PyTorch's float64 has them.

    python make_scores.py > scores.json

The cap is that of transformers' Gemma2ForCausalLM (final_logit_softcapping), before the temperature.
"""

import json

import torch

torch.set_default_dtype(torch.float64)


def rounded(*dims, scale):
    """Values that float32 holds."""
    return (torch.randn(dims) * scale).float().double()


def case(rows, vocab, width, named, top, temperature, cap, bias):
    hidden, head = rounded(rows, width, scale=1.0), rounded(vocab, width, scale=2.0)
    offset = rounded(vocab, scale=1.0) if bias else torch.zeros(vocab)
    ids, named = torch.randint(vocab, (rows,)), torch.randint(vocab, (rows, named))
    leaves = [hidden, head, offset]
    for leaf in leaves:
        leaf.requires_grad_()
    logits = hidden @ head.T + offset
    logits.retain_grad()
    capped = logits
    if cap is not None:
        capped = capped / cap
        capped = torch.tanh(capped)
        capped = capped * cap
    log_p = torch.log_softmax(capped / temperature, -1)
    top_ids = logits.topk(top).indices
    outputs = {
        "logprobs": log_p.gather(1, ids[:, None]).squeeze(1),
        "lse": torch.logsumexp(capped / temperature, -1),
        "entropy": torch.distributions.Categorical(logits=log_p).entropy(),
        "named": log_p.gather(1, named),
        "top_logprobs": log_p.gather(1, top_ids),
    }
    weights = {name: rounded(*value.shape, scale=1.0) for name, value in outputs.items()}
    sum((outputs[name] * weights[name]).sum() for name in outputs).backward()
    made = {
        "T": rows, "V": vocab, "H": width, "temperature": temperature, "soft_cap": cap,
        "hidden": hidden, "head": head, "bias": offset if bias else None, "logits": logits,
        "ids": ids, "named_ids": named, "top_ids": top_ids, "argmax": logits.argmax(-1),
        **outputs, "weights": weights, "grad_logits": logits.grad, "grad_hidden": hidden.grad,
        "grad_head": head.grad, "grad_bias": offset.grad if bias else None,
    }
    return plain(made)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value.tolist() if torch.is_tensor(value) else value


torch.manual_seed(0)
cases = [
    case(3, 11, 4, 2, 3, 1.0, None, False),
    case(4, 13, 3, 3, 2, 0.7, 30.0, False),
    case(2, 37, 5, 1, 5, 1.3, 3.0, True),
    case(3, 1, 2, 2, 1, 0.5, 2.0, True),
]
print(json.dumps({"generated_by": f"make_scores.py, PyTorch {torch.__version__}", "cases": cases}))
