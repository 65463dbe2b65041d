"""Qwen3 in PyTorch as lean as the bundled job allows: f32, right-padded batches of equal prompts.

Fused query-key-value and gate-up products, SDPA, a preallocated KV cache, rotary embedding as one
complex product outside torch.compile; `check_against` compares it with transformers.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def turned(pairs, turns):
    """pairs [.., n, 2] turned by turns [.., n, 2] = (cos, sin)."""
    if torch.compiler.is_compiling():  # which fuses real arithmetic, but not complex
        (a, b), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1)
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, heads, head_dim = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
        assert c["num_key_value_heads"] == heads, "grouped queries are not needed here"
        self.heads = heads
        self.attention_norm = Norm(width, c["rms_norm_eps"])
        self.qkv = nn.Linear(width, 3 * heads * head_dim, bias=False)
        self.qk_norm = nn.Parameter(torch.ones(2, 1, head_dim))
        self.eps = c["rms_norm_eps"]
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.mlp_norm = Norm(width, c["rms_norm_eps"])
        self.gate_up = nn.Linear(width, 2 * c["intermediate_size"], bias=False)
        self.down = nn.Linear(c["intermediate_size"], width, bias=False)

    def forward(self, x, turns, cache=None, start=0):
        batch, time, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, -1)
        qk = F.rms_norm(qkv[:, :, :2], (qkv.shape[-1],), eps=self.eps) * self.qk_norm
        qk = turned(qk.unflatten(-1, (-1, 2)), turns).flatten(-2)
        q, k, v = (x.transpose(1, 2) for x in (qk[:, :, 0], qk[:, :, 1], qkv[:, :, 2]))
        if cache is not None:
            keys, values = cache
            keys[:, :, start : start + time] = k
            values[:, :, start : start + time] = v
            k, v = keys[:, :, : start + time], values[:, :, : start + time]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, -1))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Qwen3(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = Norm(config["hidden_size"], config["rms_norm_eps"])
        half = config["head_dim"] // 2
        rope = config.get("rope_parameters") or config
        frequencies = rope["rope_theta"] ** (-torch.arange(half).float() / half)
        angles = torch.outer(torch.arange(config["max_position_embeddings"]).float(), frequencies)
        self.register_buffer("turns", torch.stack((angles.cos(), angles.sin()), -1)[:, None, None])

    def forward(self, tokens, cache=None, start=0, logits_from=0):
        """Logits [batch, time - logits_from, vocab] of tokens [batch, time]."""
        end = start + tokens.shape[1]
        x = self.embed(tokens)
        turns = self.turns[start:end]
        for i, block in enumerate(self.blocks):
            x = block(x, turns, cache[i] if cache is not None else None, start)
        return F.linear(self.norm(x[:, logits_from:]), self.embed.weight)

    def new_cache(self, batch, time):
        c = self.config
        shape = (batch, c["num_attention_heads"], time, c["head_dim"])
        return [(torch.empty(shape), torch.empty(shape)) for _ in self.blocks]


# Ours, and the tensors of the Hugging Face layout that are stacked into it.
NAMES = {
    "attention_norm": ["input_layernorm"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "qk_norm": ["self_attn.q_norm", "self_attn.k_norm"],
    "out": ["self_attn.o_proj"],
    "mlp_norm": ["post_attention_layernorm"],
    "gate_up": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
}


def interleaved(tensors, name, config):
    """A tensor by name; those of queries and keys with the two halves of each head interleaved, so
    that rotary embedding turns neighbours: products of queries and keys stay the same."""
    tensor = tensors[name]
    if any(part in name for part in ("q_proj", "k_proj", "q_norm", "k_norm")):
        halves = tensor.view(-1, 2, config["head_dim"] // 2, *tensor.shape[1:])
        return halves.transpose(1, 2).reshape(tensor.shape)
    return tensor


def load(directory):
    """The model of a Hugging Face directory, in f32."""
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == "qwen3" and config["tie_word_embeddings"], directory
    theirs = load_file(directory / "model.safetensors")
    ours = {"embed.weight": theirs["model.embed_tokens.weight"], "norm.weight": theirs["model.norm.weight"]}
    for layer in range(config["num_hidden_layers"]):
        for name, parts in NAMES.items():
            stack = [interleaved(theirs, f"model.layers.{layer}.{part}.weight", config) for part in parts]
            if name == "qk_norm":
                ours[f"blocks.{layer}.{name}"] = torch.stack(stack)[:, None]
            else:
                ours[f"blocks.{layer}.{name}.weight"] = torch.cat(stack)
    model = Qwen3(config)
    missing, unexpected = model.load_state_dict({k: v.float() for k, v in ours.items()}, strict=False)
    assert missing == ["turns"] and not unexpected, (missing, unexpected)
    return model


def check_against(directory, model, tokens):
    """Largest difference of the logits from those of transformers."""
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return (theirs(tokens).logits - model(tokens)).abs().max().item()
