"""A Hugging Face directory of the shape of Qwen3-0.6B with random weights in bf16, and the vocabulary of another
tokenizer.

    python random_model.py DIR --tokenizer DIR [--seed N] [--layers N]"""
import argparse
import json
import pathlib
import shutil

parser = argparse.ArgumentParser()
parser.add_argument("directory", type=pathlib.Path)
parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--layers", type=int, default=28)
options = parser.parse_args()

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

vocabulary = json.loads((options.tokenizer / "config.json").read_text())["vocab_size"]
config = Qwen3Config(
    vocab_size=vocabulary, hidden_size=1024, intermediate_size=3072, num_hidden_layers=options.layers,
    num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
    rope_theta=1e6, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
torch.manual_seed(options.seed)
torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
model = Qwen3ForCausalLM(config).to(torch.bfloat16)
model.save_pretrained(options.directory)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(options.tokenizer / name, options.directory / name)
