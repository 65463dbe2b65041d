"""A real model in opd beside the same one in transformers.

    compare.py texts DIR WORK        prompts for opd in WORK, and what transformers makes of them
    compare.py noise DIR STUDENT     a copy of a model with noise on its weights
    compare.py check WORK NAME       what `opd score` and `opd generate` wrote in WORK/NAME-*.jsonl
    compare.py whole WORK NAME       held-out prompts with their answers, for `opd score`
    compare.py ratio WORK PRECISION  what `opd generate` and `opd score` say of the same tokens
    compare.py kl TEACHER WORK MODEL..
                                     mean reverse KL of each model to the teacher, over the whole
                                     vocabulary, at the tokens that the model itself sampled

Everything is computed in float32. Results go to stdout as one JSON object a line.
"""

import json
import math
import random
import shutil
import sys
from pathlib import Path

import torch

SCORED, NEW, HELD_OUT, TRAINED = 20, 64, 24, 160
THINGS = """a river|the moon|old maps|bread|a lighthouse|winter|a small town|bicycles|the sea|a library|gardens|
a lost key|the night sky|trains|mountains|a market|music|clocks|bridges|a forest|rain|lanterns|a harbour|stones|
letters|birds|a mill|paper|the desert|islands""".replace("\n", "").split("|")
ASKED = """Tell me a short story about {}.|Explain to a child why people like {}.|Write a poem about {}.|
What should I know about {}?|Describe {} in a few sentences.|Give me three ideas for an essay about {}.|
How did people write about {} long ago?|Summarize what is special about {}.""".replace("\n", "").split("|")


def prompts():
    """All different, in an order that mixes things and questions."""
    texts = [asked.format(thing) for asked in ASKED for thing in THINGS]
    random.Random(7).shuffle(texts)
    assert len(set(texts)) == len(texts) >= TRAINED + HELD_OUT
    return [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in texts]


def load(directory):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(directory, work):
    from transformers import AutoTokenizer

    work.mkdir(parents=True, exist_ok=True)
    all_of_them = prompts()
    lines(work / "train.jsonl", [{"prompt": text} for text in all_of_them[:TRAINED]])
    tokenizer, model = AutoTokenizer.from_pretrained(directory), load(directory)
    # Texts go on past their end, as with --ignore-eos.
    model.generation_config.eos_token_id = None
    ids = [tokenizer(text)["input_ids"] for text in all_of_them]
    lines(work / "held-out.jsonl", [{"tokens": row} for row in ids[TRAINED:TRAINED + HELD_OUT]])
    expected = []
    with torch.no_grad():
        for row in ids[:SCORED]:
            out = model.generate(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long),
                max_new_tokens=NEW, do_sample=False, pad_token_id=2)
            whole = out[0].tolist()
            logprobs = model(torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
            taken = logprobs.gather(-1, torch.tensor(whole[1:])[:, None])[:, 0]
            expected.append({"tokens": whole, "prompt_len": len(row), "log_probs": taken.tolist()})
    lines(work / "expected.jsonl", expected)
    lines(work / "score.jsonl", [{"tokens": row["tokens"], "prompt_len": 1} for row in expected])
    lines(work / "generate.jsonl", [{"tokens": row["tokens"][:row["prompt_len"]]} for row in expected])


def noise(directory, student):
    from safetensors.torch import load_file, save_file

    student.mkdir(parents=True, exist_ok=True)
    for file in directory.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, student / file.name)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(directory / "model.safetensors")
    for name in sorted(weights):
        values = weights[name]
        spread = 0.02 * values.pow(2).mean().sqrt()
        weights[name] = values + spread * torch.randn(values.shape, generator=generator)
    save_file(weights, student / "model.safetensors", metadata={"format": "pt"})


def check(work, name):
    expected = rows(work / "expected.jsonl")
    scores = rows(work / f"{name}-scores.jsonl")
    written = rows(work / f"{name}-generated.jsonl")
    worst = max(
        abs(a - b) for want, got in zip(expected, scores) for a, b in zip(want["log_probs"], got["log_probs"]))
    same = [want["tokens"][want["prompt_len"]:] == got["tokens"] for want, got in zip(expected, written)]
    n = sum(len(row["log_probs"]) for row in expected)
    print(json.dumps({
        "model": name, "prompts": len(expected), "tokens": n, "worst_log_prob_difference": worst,
        "greedy_continuations_identical": sum(same)}))
    assert len(expected) == len(scores) == len(written) == SCORED
    assert worst <= 2e-3, worst
    assert all(same), same


def whole(work, name):
    pairs = zip(rows(work / "held-out.jsonl"), rows(work / f"{name}-answers.jsonl"), strict=True)
    lines(work / f"{name}-whole.jsonl", [
        {"tokens": asked["tokens"] + answer["tokens"], "prompt_len": len(asked["tokens"])}
        for asked, answer in pairs])


def ratio(work, precision):
    pairs = zip(
        rows(work / f"ratio-{precision}-answers.jsonl"), rows(work / f"ratio-{precision}-scores.jsonl"),
        strict=True)
    off = [
        abs(math.expm1(scored - sampled)) for answer, score in pairs
        for sampled, scored in zip(answer["log_probs"], score["log_probs"], strict=True)]
    worst = max(off)
    print(json.dumps({
        "precision": precision, "tokens": len(off), "worst_ratio_error": worst,
        "mean_ratio_error": sum(off) / len(off)}))
    assert precision != "f32" or worst <= 1e-3, worst


def kl(teacher, work, students):
    of, means = load(teacher), {}
    for student in students:
        model, total, n = load(work / student), 0.0, 0
        with torch.no_grad():
            for prompt, answer in zip(rows(work / "held-out.jsonl"), rows(work / f"{student}-answers.jsonl")):
                whole = torch.tensor([prompt["tokens"] + answer["tokens"]])
                start = len(prompt["tokens"]) - 1
                own = model(whole).logits[0, start:-1].log_softmax(-1)
                other = of(whole).logits[0, start:-1].log_softmax(-1)
                total += float((own.exp() * (own - other)).sum())
                n += own.shape[0]
        means[student] = total / n
        print(json.dumps({"student": student, "reverse_kl": total / n, "tokens": n}))
    before, after = (means[student] for student in students)
    assert 0 <= after <= before / 2, (before, after)


def main():
    command, *rest = sys.argv[1:]
    if command == "texts":
        texts(Path(rest[0]), Path(rest[1]))
    elif command == "noise":
        noise(Path(rest[0]), Path(rest[1]))
    elif command == "check":
        check(Path(rest[0]), rest[1])
    elif command == "whole":
        whole(Path(rest[0]), rest[1])
    elif command == "ratio":
        ratio(Path(rest[0]), rest[1])
    elif command == "kl":
        kl(Path(rest[0]), Path(rest[1]), rest[2:])
    else:
        sys.exit(__doc__)


main()
