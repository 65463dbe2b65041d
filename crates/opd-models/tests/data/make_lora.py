"""Writes lora/: adapters as the `peft` package saves them, and what it computes with them.

Three of the tiny checkpoints get adapters with random values in both factors; the log-probs, the
loss and the gradients are those of peft's own forward and of autograd, in float64 on the float32
values that the files hold (norms in float32, where transformers casts). Made with peft 0.21.2,
transformers 5.19.0 and torch 2.14.1; run it anywhere:

    python make_lora.py
"""

import json
import math
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
MODELS = HERE / "../../../opd-testkit/models"
CASES = {
    "qwen3_tied": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "qwen2_tied": dict(
        r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]
    ),
    "llama3_rope_untied": dict(r=2, lora_alpha=2, target_modules=["k_proj", "up_proj", "o_proj"]),
}


def log_probs(model, tokens):
    logits = model(torch.tensor([tokens])).logits[0, :-1]
    picked = torch.tensor(tokens[1:])[:, None]
    return logits.log_softmax(-1).gather(1, picked)[:, 0]


def loss(model, sequences):
    """Sum over all predicted tokens of cos(position) times the log-prob."""
    total = 0.0
    for tokens in sequences:
        values = log_probs(model, tokens)
        total = total + (values * torch.cos(torch.arange(len(values), dtype=values.dtype))).sum()
    return total


def main():
    for name, settings in CASES.items():
        torch.manual_seed(20261123)
        sequences = json.loads((MODELS / name / "expected.json").read_text())["sequences"]
        base = AutoModelForCausalLM.from_pretrained(
            MODELS / name, dtype=torch.float32, attn_implementation="eager"
        )
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)
        out = HERE / "lora" / name
        shutil.rmtree(out, ignore_errors=True)
        model.save_pretrained(out)
        (out / "README.md").unlink()
        config = json.loads((out / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = name
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

        base = AutoModelForCausalLM.from_pretrained(
            MODELS / name, dtype=torch.float32, attn_implementation="eager"
        )
        model = PeftModel.from_pretrained(base, out, is_trainable=True).double().eval()
        value = loss(model, sequences)
        value.backward()
        gradients = {}
        for parameter_name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            flat = parameter.grad.flatten()
            weights = torch.cos(torch.arange(len(flat), dtype=flat.dtype))
            key = parameter_name.replace(".default", "")
            gradients[key] = [flat.norm().item(), (flat * weights).sum().item()]
        with torch.no_grad():
            with model.disable_adapter():
                off = [log_probs(model, tokens).tolist() for tokens in sequences]
            on = [log_probs(model, tokens).tolist() for tokens in sequences]
            merged = model.merge_and_unload()
            for tokens, values in zip(sequences, on):
                difference = (log_probs(merged, tokens) - torch.tensor(values).double()).abs().max()
                assert difference < 1e-5, difference
            modules = dict(merged.named_modules())
            sums = {
                f"{module}.weight": modules[module].weight.sum().item()
                for module in modules
                if module.endswith("_proj")
            }
        assert all(math.isfinite(x) for pair in gradients.values() for x in pair)
        expected = {
            "sequences": sequences,
            "log_probs": on,
            "log_probs_without": off,
            "loss": value.item(),
            "gradients": gradients,
            "merged_sums": sums,
        }
        (out / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
