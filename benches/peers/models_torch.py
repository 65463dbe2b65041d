"""One job of a language model in transformers, timed on request: the twin of `models.rs`, same arguments.

A response is sampled by `generate`. Scoring takes the head of one sequence at a time or of all at once,
whichever the first two runs find faster. A training step is over the padded batch, the head at the
tokens that count only, AdamW(fused=True); in bf16 the model is bf16 and the optimizer holds masters and
moments in f32.
"""

import json
import re
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def memory(field):
    """MiB of a line of /proc/self/status."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def generation(model, job):
    ids = torch.tensor(job["generate"])
    settings = {"min_new_tokens": job["new"], "max_new_tokens": job["new"], "pad_token_id": 0}
    settings |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}

    def run():
        with torch.no_grad():
            assert model.generate(ids, attention_mask=torch.ones_like(ids), **settings).shape[1] == ids.shape[1] + job["new"]

    return run


def scoring(model, job):
    ids = torch.tensor(job["score"])

    def score(at_once):
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state
            for rows, targets in zip(hidden[:, :-1].split(at_once), ids[:, 1:].split(at_once)):
                logits = model.lm_head(rows).float()
                assert logits.log_softmax(-1).gather(-1, targets[..., None]).isfinite().all()

    seconds = {}
    for at_once in (1, len(ids)):
        began = time.perf_counter()
        score(at_once)
        seconds[at_once] = time.perf_counter() - began
    best = min(seconds, key=seconds.get)
    return lambda: score(best)


def training(model, job):
    rows = [torch.tensor(row) for row in job["train"]]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    attended = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    counts = attended.clone()
    for row, prompt in zip(counts, job["prompt"]):
        row[:prompt] = 0
    counts, targets = counts[:, 1:].bool(), ids[:, 1:]
    masters = list(model.parameters())
    if masters[0].dtype == torch.bfloat16:
        masters = [parameter.detach().float() for parameter in masters]
    optimizer = torch.optim.AdamW(masters, lr=1e-6, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    model.train()

    def run():
        # Without padding there is nothing to mask, and attention takes its fast path.
        mask = None if attended.all() else attended
        hidden = model.model(ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[counts]).float()
        own = logits.log_softmax(-1).gather(-1, targets[counts][:, None])[:, 0]
        loss = -(own - own.detach()).exp().mean()
        loss.backward()
        assert loss.isfinite()
        for master, parameter in zip(masters, model.parameters()):
            if master is not parameter:
                master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if masters[0] is not next(model.parameters()):
            with torch.no_grad():
                for master, parameter in zip(masters, model.parameters()):
                    parameter.copy_(master)

    return run


def main():
    directory, job, precision = sys.argv[1:]
    job = json.loads(job)
    program = memory("VmRSS")
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    run = {"generate": generation, "score": scoring, "train": training}[next(iter(job))](model, job)
    print(json.dumps({"program": program}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - began, "peak": memory("VmHWM")}), flush=True)


main()
