"""Makes the GGUF files of this folder, with what other programs read from them.

    make.py        gguf, transformers 5.19, tokenizers (the environment of tests/real_servers/install)

Random weights of tiny models, every type of tensor that is read among them. Blocks of Q4_K and Q6_K are
random bytes with small scales, for the gguf package quantizes to neither. `NAME.json` has per tensor, in
the order of the Hugging Face layout, some values that gguf's own dequantization gives; log-probs that
transformers computes with the dequantized weights in float32; texts with the ids that the tokenizers
package gives them.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

HERE = Path(__file__).resolve().parent
WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER, LAYERS, CONTEXT = 256, 4, 2, 8, 64, 2, 128

# Merges that make tokens of words, spaces and numbers; learned from nothing, in this order.
MERGES = """h e|l l|Ġ t|he ll|hell o|Ġt he|i n|r e|o n|1 2|12 3|Ġ a|a n|an d|Ġ and|o r|w or|l d|wor ld|Ġ world|ĠĠ|Ċ Ċ|' s|' t|e r|Ġ 1""".replace("ĠĠ", "Ġ Ġ").split("|")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    "hello world", "the world's 12345 hellos and\n\n  the   rest", "don't SHOUT: 3.14 naïve café 日本語 🙂",
    " leading", "trailing ", "<|im_start|>user\nhello<|im_end|>\n", "tab\tand\r\nline", "123123 1e-9", "",
    "e\u0301 combining", "x" * 40, "I'LL we'Re",
]
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def vocabulary():
    tokens = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet())
    for merge in MERGES:
        token = merge.replace(" ", "")
        if token not in tokens:
            tokens.append(token)
    while len(tokens) % 32:
        tokens.append(f"[PAD{len(tokens)}]")
    return tokens


TOKENS = vocabulary()
KINDS = [3 if t in SPECIAL else 5 if t.startswith("[PAD") else 1 for t in TOKENS]


def tokenizer(pre):
    used = {t: i for i, t in enumerate(TOKENS) if KINDS[i] != 5}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    made = tokenizers.Tokenizer(models.BPE(used, merges, ignore_merges=pre == "llama-bpe"))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    made.pre_tokenizer = {
        "gpt-2": plain,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain]),
        "qwen2": pre_tokenizers.Sequence([split(QWEN2), raw]),
        "llama-bpe": pre_tokenizers.Sequence([split(LLAMA3), raw]),
    }[pre]
    if pre == "qwen2":
        made.normalizer = normalizers.NFC()
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    if pre == "llama-bpe":
        made.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A <|endoftext|> $B",
            special_tokens=[("<|endoftext|>", 0)])
    return made


def blocks(kind, shape, rng, scale):
    """Bytes of a tensor; random blocks for the K types."""
    if kind not in (Q.Q4_K, Q.Q6_K):
        return gguf.quants.quantize((scale * rng.standard_normal(shape)).astype(np.float32), kind)
    n = shape[0] * shape[1] // 256
    small = (scale / 60 * rng.uniform(0.5, 1.5, (n, 1))).astype(np.float16).view(np.uint8)
    if kind == Q.Q6_K:
        low, high = rng.integers(0, 256, (n, 128)), rng.integers(0, 256, (n, 64))
        scales = rng.integers(-8, 9, (n, 16)).astype(np.int8).view(np.uint8)
        data = np.concatenate([low, high, scales, small], axis=1)
    else:
        floor = (scale / 60 * rng.uniform(0.5, 1.5, (n, 1))).astype(np.float16).view(np.uint8)
        # Scales and floors near the middle of their 6 bits, so that values lie around 0.
        scales = np.concatenate([rng.integers(4, 12, (n, 4)), rng.integers(24, 40, (n, 4)), rng.integers(0, 256, (n, 4))], axis=1)
        data = np.concatenate([small, floor, scales, rng.integers(0, 256, (n, 128))], axis=1)
    return data.astype(np.uint8).reshape(shape[0], -1)


def permute(rows, heads):
    """As llama.cpp's converter orders the rows of Llama's queries and keys."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows, heads):
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def plan(arch, kinds):
    """Name in GGUF, name in the Hugging Face layout, shape, type."""
    v, q, kv = len(TOKENS), HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    yield "token_embd.weight", "model.embed_tokens.weight", (v, WIDTH), kinds["embed"]
    for i in range(LAYERS):
        b, m = f"blk.{i}.", f"model.layers.{i}."
        yield b + "attn_norm.weight", m + "input_layernorm.weight", (WIDTH,), Q.F32
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            yield b + f"attn_{part}.weight", m + f"self_attn.{part}_proj.weight", (rows, WIDTH), kinds[part]
            if arch == "qwen2":
                yield b + f"attn_{part}.bias", m + f"self_attn.{part}_proj.bias", (rows,), Q.F32
        if arch == "qwen3":
            for part in "qk":
                yield b + f"attn_{part}_norm.weight", m + f"self_attn.{part}_norm.weight", (HEAD_DIM,), Q.F32
        yield b + "attn_output.weight", m + "self_attn.o_proj.weight", (WIDTH, q), kinds["o"]
        yield b + "ffn_norm.weight", m + "post_attention_layernorm.weight", (WIDTH,), Q.F32
        yield b + "ffn_gate.weight", m + "mlp.gate_proj.weight", (INNER, WIDTH), kinds["gate"]
        yield b + "ffn_up.weight", m + "mlp.up_proj.weight", (INNER, WIDTH), kinds["up"]
        yield b + "ffn_down.weight", m + "mlp.down_proj.weight", (WIDTH, INNER), kinds["down"]
    yield "output_norm.weight", "model.norm.weight", (WIDTH,), Q.F32
    if "head" in kinds:
        yield "output.weight", "lm_head.weight", (v, WIDTH), kinds["head"]


def make(name, arch, pre, kinds, seed, rope=None):
    rng = np.random.default_rng(seed)
    out = gguf.GGUFWriter(HERE / f"{name}.gguf", arch)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(50_000.0)
    out.add_rope_dimension_count(HEAD_DIM)
    out.add_key_length(HEAD_DIM)
    out.add_value_length(HEAD_DIM)
    rope_parameters = {"rope_type": "default", "rope_theta": 50_000.0}
    if rope == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(4.0)
        rope_parameters |= {"rope_type": "linear", "factor": 4.0}
    if rope == "yarn":
        out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        out.add_rope_scaling_factor(4.0)
        out.add_rope_scaling_orig_ctx_len(32)
        rope_parameters |= {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    if rope == "llama3":
        rope_parameters |= {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(TOKENS)
    out.add_token_types(KINDS)
    out.add_token_merges(MERGES)
    out.add_bos_token_id(0)
    out.add_eos_token_id(2)
    out.add_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    weights = {}
    for gguf_name, hf_name, shape, kind in plan(arch, kinds):
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(gguf_name.split(".")[-2]) if arch == "llama" else None
        scale = 0.1 if "embed" in hf_name or "lm_head" in hf_name else 0.06
        if len(shape) == 1:
            base = 1.0 if "norm" in hf_name else 0.0
            data = (base + 0.2 * rng.standard_normal(shape)).astype(np.float32)
        else:
            data = blocks(kind, shape, rng, scale)
        # Drawn in the order of the file: the Hugging Face rows are found by undoing it.
        values = gguf.quants.dequantize(data, kind).reshape(shape)
        weights[hf_name] = torch.from_numpy(unpermute(values, heads) if heads else values).float().clone()
        if heads:
            assert np.array_equal(permute(unpermute(values, heads), heads), values)
        out.add_tensor(gguf_name, data, raw_dtype=kind if data.dtype == np.uint8 else None)
    if rope == "llama3":
        frequencies = 50_000.0 ** -(np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        config = transformers.LlamaConfig(head_dim=HEAD_DIM, rope_parameters=rope_parameters)
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        out.add_tensor("rope_freqs.weight", (frequencies / scaled.double().numpy()).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()

    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config}
    config = kind[arch](
        vocab_size=len(TOKENS), hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, rms_norm_eps=1e-5,
        max_position_embeddings=CONTEXT, tie_word_embeddings="head" not in kinds, rope_parameters=rope_parameters)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    ids = rng.integers(3, 200, 24).tolist()
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    taken = logprobs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    made = tokenizer(pre)
    expected = {
        "tokens": ids,
        "log_probs": taken,
        "rope_parameters": rope_parameters,
        "tensors": {
            name: {"shape": list(values.shape), "sum_of_squares": float(values.double().pow(2).sum()),
                   "first": values.flatten()[:40].tolist(), "last": values.flatten()[-40:].tolist()}
            for name, values in weights.items()},
        "texts": [[text, made.encode(text).ids] for text in TEXTS],
    }
    (HERE / f"{name}.json").write_text(json.dumps(expected))
    print(name, (HERE / f"{name}.gguf").stat().st_size, "bytes", [round(x, 2) for x in taken[:6]])


torch.set_num_threads(1)
make("llama", "llama", "smollm",
     dict(embed=Q.Q8_0, q=Q.Q4_K, k=Q.Q6_K, v=Q.Q4_1, o=Q.Q4_0, gate=Q.Q4_K, up=Q.Q6_K, down=Q.Q4_1), 1)
make("llama3", "llama", "llama-bpe",
     dict(embed=Q.Q4_1, q=Q.Q8_0, k=Q.F16, v=Q.BF16, o=Q.F16, gate=Q.Q4_0, up=Q.Q8_0, down=Q.BF16, head=Q.Q6_K), 2, "llama3")
make("qwen2", "qwen2", "qwen2",
     dict(embed=Q.Q4_0, q=Q.Q5_0, k=Q.Q5_1, v=Q.Q8_0, o=Q.Q8_0, gate=Q.Q6_K, up=Q.Q4_K, down=Q.Q8_0, head=Q.Q8_0), 3, "linear")
make("qwen3", "qwen3", "gpt-2",
     dict(embed=Q.Q4_K, q=Q.Q4_0, k=Q.Q4_0, v=Q.Q6_K, o=Q.F16, gate=Q.Q8_0, up=Q.Q8_0, down=Q.Q4_0), 4, "yarn")
