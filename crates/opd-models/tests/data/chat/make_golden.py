#!/usr/bin/env python3
"""Writes what transformers renders and tokenises: conversations.jsonl, golden.jsonl and templates/.

python3 make_golden.py NAME=PLACE .. with transformers 5.19; PLACE is a directory of tokenizer.json and
                                     tokenizer_config.json (and chat_template.jinja), or SmolLM2's GGUF
                                     file (as ./fetch puts them into its folder)

transformers reads vocabulary, merges and special tokens of a GGUF file, but not how the file says that
texts are cut (tokenizer.ggml.pre): it cuts SmolLM2's as GPT-2's. SmolLM2's own tokenizer.json takes every
digit by itself before that, which is what `smollm` stands for, and is put back here. `check_llama_cpp.py`
holds the ids against llama.cpp's.

Of each rendering the file holds the SHA-256 of the text and of the ids (as decimal numbers with
spaces), both cut to 16 digits; of a few the text itself.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

import transformers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoTokenizer

HERE = Path(__file__).parent
TEXTS = 6


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tools(rng):
    def tool(name, properties):
        parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
        return {"type": "function", "function": {"name": name, "description": f"It's \"{name}\" <&> {rng.choice(['é', '日本', 'x > y'])}.", "parameters": parameters}}

    every = [
        tool("get_weather", {"location": {"type": "string", "enum": ["Paris", "Zürich"]}, "unit": {"type": "string"}}),
        tool("add", {"b": {"type": "number", "default": 1.0}, "a": {"type": "integer", "minimum": -3, "big": 12345678901234567890}}),
        tool("stop", {}),
        tool("flags", {"on": {"type": "boolean", "default": True}, "off": {"default": None, "eps": 1e-07, "huge": 1e20, "list": [1, [2.5, False]]}}),
    ]
    return rng.sample(every, rng.randint(1, 4))


WORDS = ["2 + 2?", "Solve $x^2=4$.", "日本語で", "naïve café", "<b>&amp;</b>", "'quoted' \"twice\"", "line\nbreak", "  padded  ", "emoji 🦀", "{{ not jinja }}", "{% if %}", "tab\there", "<|im_end|>", "a\\nb", "", "null", "x" * 60]


def text(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))


def conversation(i):
    rng = random.Random(i)
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": text(rng)})
    with_tools = rng.random() < 0.5
    for turn in range(rng.randint(1, 4)):
        messages.append({"role": "user", "content": text(rng)})
        last = turn == 3 or rng.random() < 0.35
        if last and rng.random() < 0.6:
            break
        thought = rng.choice(["", "", f"<think>\n{text(rng)}\n</think>\n\n"])
        answer = {"role": "assistant", "content": thought + text(rng)}
        if rng.random() < 0.15:
            answer["reasoning_content"] = text(rng)
        if with_tools and rng.random() < 0.6:
            call = {"name": "add", "arguments": {"b": rng.choice([1, 2.5, "é", None, True]), "a": [turn]}}
            function = {"type": "function", "function": call}
            answer["tool_calls"] = [rng.choice([call, function]) for _ in range(rng.randint(1, 2))]
            messages.append(answer)
            for _ in answer["tool_calls"]:
                messages.append({"role": "tool", "content": json.dumps({"sum": turn, "é": 1.5})})
            answer = {"role": "assistant", "content": text(rng)}
        messages.append(answer)
        if last:
            break
    row = {"messages": messages}
    if with_tools:
        row["tools"] = tools(rng)
    row["add_generation_prompt"] = rng.random() < 0.7
    kwargs = {}
    if rng.random() < 0.4:
        kwargs["enable_thinking"] = rng.random() < 0.5
    row["kwargs"] = kwargs
    return row


def load(place):
    place = Path(place)
    if place.suffix != ".gguf":
        return AutoTokenizer.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place.parent, gguf_file=place.name)
    cut = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(cut)
    return tokenizer


rows = [conversation(i) for i in range(240)]
with open(HERE / "conversations.jsonl", "w") as file:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")

(HERE / "templates").mkdir(exist_ok=True)
with open(HERE / "golden.jsonl", "w") as file:
    file.write(json.dumps({"by": f"transformers {transformers.__version__}"}) + "\n")
    for name, place in (argument.split("=", 1) for argument in sys.argv[1:]):
        tokenizer = load(place)
        config = {key: str(getattr(tokenizer, key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token") if getattr(tokenizer, key)}
        config["chat_template"] = tokenizer.chat_template
        (HERE / "templates" / name).mkdir(exist_ok=True)
        with open(HERE / "templates" / name / "tokenizer_config.json", "w") as out:
            out.write(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
        for i, row in enumerate(rows):
            given = dict(tools=row.get("tools"), add_generation_prompt=row["add_generation_prompt"], **row["kwargs"])
            rendered = tokenizer.apply_chat_template(row["messages"], tokenize=False, **given)
            ids = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False, **given)
            line = {"model": name, "row": i, "text": digest(rendered), "n": len(ids), "ids": digest(" ".join(map(str, ids)))}
            if i < TEXTS:
                line["rendered"] = rendered
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
