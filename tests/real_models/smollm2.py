"""Makes a Hugging Face directory of SmolLM2-135M-Instruct from its GGUF file, by transformers.

    smollm2.py FILE.gguf DIR

Its weights are written out in f32: they are the quantized ones (Q4_1), not those that were published, with
the sizes of the original. Needs transformers and gguf, which SGLang's environment has; accelerate is
fetched for the moment.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def main(file, directory):
    file = Path(file)
    with tempfile.TemporaryDirectory() as libraries:
        install = ["install", "--quiet", "--no-deps", "--target", libraries, "accelerate==1.12.0"]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
        sys.path.append(libraries)
        import torch
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        # transformers does not read tokenizer.ggml.pre: SmolLM2 takes every digit by itself.
        cut = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(cut)
    config = model.config
    del config.quantization_config
    # The model that was read counts as quantized, which cannot be saved.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


main(sys.argv[1], sys.argv[2])
