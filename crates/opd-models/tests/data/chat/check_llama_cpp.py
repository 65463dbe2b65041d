"""Holds SmolLM2's ids of golden.jsonl against llama.cpp's, of the GGUF file.

    check_llama_cpp.py FILE.gguf     transformers and what make_golden.py needs; node and npm
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
PACKAGES = ["node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1"]

file = Path(sys.argv[1]).resolve()
tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
rows = [json.loads(line) for line in (HERE / "conversations.jsonl").open()]
golden = [json.loads(line) for line in list((HERE / "golden.jsonl").open())[1:]]
golden = [line for line in golden if line["model"] == "smollm2"]
texts = []
for line in golden:
    row = rows[line["row"]]
    given = dict(tools=row.get("tools"), add_generation_prompt=row["add_generation_prompt"], **row["kwargs"])
    texts.append(tokenizer.apply_chat_template(row["messages"], tokenize=False, **given))
with tempfile.TemporaryDirectory() as work:
    work = Path(work)
    (work / "llama_cpp.mjs").write_text((HERE / "../cuts/llama_cpp.mjs").read_text())
    (work / "package.json").write_text("{}")
    (work / "texts.json").write_text(json.dumps(texts))
    subprocess.run(["npm", "install", "--silent", "--ignore-scripts", *PACKAGES], cwd=work, check=True)
    subprocess.run(["node", "llama_cpp.mjs", file, "texts.json", "ids.json"], cwd=work, check=True)
    theirs = json.loads((work / "ids.json").read_text())
digest = lambda ids: hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]
differing = [line["row"] for line, ids in zip(golden, theirs, strict=True) if digest(ids) != line["ids"]]
print(f"{len(theirs)} conversations compared, {len(differing)} differ: {differing}")
sys.exit(bool(differing) or len(theirs) != 240)
