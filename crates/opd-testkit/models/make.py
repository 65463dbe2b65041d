"""Makes the tiny checkpoints of this folder, but for the first five, with what transformers computes.

    make.py [NAME..]        transformers 5.19, torch 2.14 (the environment of tests/real_servers/install)

Random weights in float32; norm weights and biases are moved away from their first values, so that a
forgotten one shows. `expected.json` has, computed in float32 on one thread:

- per sequence: log-probs of tokens 1.. (also at temperature 0.8), entropies, first logits;
- 24 greedy tokens after sequence 0 (end of sequence ignored);
- for models that are trained: old log-probs and advantages of the responses, the PPO loss (clip
  0.2 / 0.28, sum over sequences of response means), the gradient norm of every parameter, and the
  log-probs of sequence 1 after one AdamW step (lr 1e-2, betas 0.9 / 0.98, eps 1e-8, weight decay
  0.1 on all parameters, no clipping).
"""

import copy
import json
import sys
from pathlib import Path

import torch
import transformers

VOCAB, TEMPERATURE, EPS_CLIP = 112, 0.8, [0.2, 0.28]
PROMPTS = [4, 6, 3]
LENGTHS = [9, 17, 40]
SIZES = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)


def sizes(**changed):
    return {**SIZES, **changed}


def rope(kind, theta=10_000.0, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **more}}


def models():
    t = transformers
    return {
        # Mistral-7B-Instruct-v0.3: no window, a head_dim of its own.
        "mistral": t.MistralConfig(
            **sizes(head_dim=12), sliding_window=None, rms_norm_eps=1e-5, **rope("default", 1e6)),
        # Position interpolation, and every bias that Llama can have.
        "llama_linear": t.LlamaConfig(
            **sizes(), attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
            **rope("linear", factor=4.0)),
        "llama_yarn": t.LlamaConfig(
            **sizes(), rms_norm_eps=1e-5, tie_word_embeddings=False,
            **rope("yarn", factor=4.0, original_max_position_embeddings=64)),
        # YaRN with every setting said.
        "qwen3_yarn": t.Qwen3Config(
            **sizes(head_dim=16), tie_word_embeddings=True,
            **rope("yarn", 1e6, factor=8.0, original_max_position_embeddings=32, attention_factor=0.9,
                   beta_fast=16.0, beta_slow=2.0, truncate=False)),
        # Qwen2.5-7B: untied, an odd number of query heads to a key head.
        "qwen25": t.Qwen2Config(
            **sizes(hidden_size=48, num_attention_heads=6), tie_word_embeddings=False,
            use_sliding_window=False, max_window_layers=2, **rope("default", 1e6)),
        # SmolLM2-135M: nine query heads to three key heads, tied.
        "smollm2": t.LlamaConfig(
            **sizes(hidden_size=72, num_attention_heads=9, num_key_value_heads=3, intermediate_size=64),
            rms_norm_eps=1e-5, tie_word_embeddings=True, **rope("default", 1e5)),
        # A dense layer among sparse ones, 2 experts of 8.
        "qwen3_moe": t.Qwen3MoeConfig(
            **sizes(head_dim=16, num_hidden_layers=3), moe_intermediate_size=24, num_experts=8,
            num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1],
            tie_word_embeddings=False, **rope("default", 1e6)),
        # Sparse in every second layer, 3 experts of 4, whose weights do not add up to 1.
        "qwen3_moe_plain": t.Qwen3MoeConfig(
            **sizes(head_dim=16), moe_intermediate_size=32, num_experts=4, num_experts_per_tok=3,
            norm_topk_prob=False, decoder_sparse_step=2, tie_word_embeddings=True, **rope("default")),
    }


def randomize(model, generator):
    """Weights that matter: biases and norms too, and logits that differ by some nats."""
    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            if "norm" in name:
                values.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                values.copy_(0.2 * noise)
            elif "embed" in name or "lm_head" in name:
                values.copy_(0.2 * noise)
            else:
                values.copy_(noise / values.shape[-1] ** 0.5)


def sequences(generator, vocab=VOCAB):
    draw = lambda n: torch.randint(3, vocab, (n,), generator=generator).tolist()
    return [draw(n) for n in LENGTHS]


def scores(model, tokens, temperature=1.0):
    logits = model(torch.tensor([tokens])).logits[0, :-1] / temperature
    logprobs = logits.log_softmax(-1)
    taken = logprobs.gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]
    return taken, -(logprobs.exp() * logprobs).sum(-1), logits


def forward(model, rows, generator):
    """What needs no gradient."""
    cases = []
    with torch.no_grad():
        for tokens, prompt in zip(rows, PROMPTS):
            taken, entropy, logits = scores(model, tokens)
            cooled, _, _ = scores(model, tokens, TEMPERATURE)
            n = len(tokens) - prompt
            old = taken[prompt - 1:] + 0.3 * torch.randn(n, generator=generator)
            cases.append({
                "log_probs": taken.tolist(),
                "log_probs_at_temperature": cooled.tolist(),
                "entropy": entropy.tolist(),
                "old_log_probs": old.tolist(),
                "advantages": torch.randn(n, generator=generator).tolist(),
                "first_logits": logits[0].tolist(),
            })
        tokens, greedy = list(rows[0]), []
        for _ in range(24):
            greedy.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            tokens.append(greedy[-1])
    return {
        "sequences": rows, "prompt_lengths": PROMPTS, "temperature": TEMPERATURE, "cases": cases,
        "eps_clip": EPS_CLIP, "greedy_from_sequence_0": greedy,
    }


def training(model, expected):
    """Loss, gradient norms and one AdamW step."""
    loss = 0.0
    for tokens, prompt, case in zip(expected["sequences"], PROMPTS, expected["cases"]):
        taken, _, _ = scores(model, tokens)
        ratio = (taken[prompt - 1:] - torch.tensor(case["old_log_probs"])).exp()
        advantages = torch.tensor(case["advantages"])
        clipped = ratio.clamp(1 - EPS_CLIP[0], 1 + EPS_CLIP[1])
        loss = loss + torch.maximum(-ratio * advantages, -clipped * advantages).mean()
    loss.backward()
    norms = {name: float(values.grad.norm()) for name, values in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
    optimizer.step()
    with torch.no_grad():
        after = scores(model, expected["sequences"][1])[0].tolist()
    return {
        "ppo_loss_sum_of_sample_means": float(loss.detach()),
        "grad_norms": norms,
        "grad_norm_total": sum(norm**2 for norm in norms.values()) ** 0.5,
        "log_probs_after_adamw_step_sequence_1": after,
    }


def check(single, double, path=""):
    """AdamW's first step is nearly a sign: a model on which rounding decides it is no reference."""
    if isinstance(single, dict):
        for key, value in single.items():
            check(value, double[key], f"{path} {key}")
    elif isinstance(single, list):
        for a, b in zip(single, double):
            check(a, b, path)
    else:
        assert abs(single - double) < 3e-4 * max(1.0, abs(double)), (path, single, double)


def make(name, config, seed, here):
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    config.dtype = torch.float32
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomize(model, generator)
    model.save_pretrained(here / name)
    expected = forward(model, sequences(generator), generator)
    if "moe" not in name:
        double = copy.deepcopy(model).double()
        results = training(model, expected)
        check(results, training(double, expected), name)
        expected.update(results)
    (here / name / "expected.json").write_text(json.dumps(expected))
    print(name, sum(values.numel() for values in model.parameters()), "values")


def main():
    torch.set_num_threads(1)
    here = Path(__file__).resolve().parent
    wanted = sys.argv[1:]
    for seed, (name, config) in enumerate(models().items()):
        if not wanted or name in wanted:
            make(name, config, 2026 + seed, here)


if __name__ == "__main__":
    main()
