"""Generation in llama.cpp, timed on request: the twin of `models.rs` for `{"generate": ..., "new": ...}`.

    models_llama.py FILE.gguf JOB
    models_llama.py --convert FROM.gguf TO.gguf f32|f16

Every token after the prompt is given, not sampled, and the logits of each are computed: what is left
out is the choice alone.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import llama_cpp as llama

THREADS = int(os.environ["OMP_NUM_THREADS"])


def memory(field):
    """MiB of a line of /proc/self/status."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def convert(source, target, precision):
    settings = llama.llama_model_quantize_default_params()
    settings.allow_requantize = True
    settings.ftype = {"f32": llama.LLAMA_FTYPE_ALL_F32, "f16": llama.LLAMA_FTYPE_MOSTLY_F16}[precision]
    assert llama.llama_model_quantize(source.encode(), target.encode(), settings) == 0


def generation(path, job):
    prompts, new = job["generate"], job["new"]
    settings = llama.llama_context_default_params()
    settings.n_ctx = len(prompts) * (len(prompts[0]) + new + 8)
    settings.n_batch = settings.n_ubatch = 512
    settings.n_seq_max = len(prompts)
    settings.n_threads = settings.n_threads_batch = THREADS
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    context = llama.llama_init_from_model(model, settings)
    assert context, "no context"

    def decode(tokens):
        """Of (id, position, sequence, whether its logits are wanted)."""
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        assert llama.llama_decode(context, batch) == 0
        llama.llama_synchronize(context)
        llama.llama_batch_free(batch)

    def run():
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        first = [
            (token, at, row, at + 1 == len(prompt)) for row, prompt in enumerate(prompts) for at, token in enumerate(prompt)
        ]
        for start in range(0, len(first), settings.n_batch):
            decode(first[start : start + settings.n_batch])
        for step in range(new - 1):
            decode([(100 + step, len(prompt) + step, row, True) for row, prompt in enumerate(prompts)])

    return run


def main():
    if sys.argv[1] == "--convert":
        return convert(*sys.argv[2:])
    program = memory("VmRSS")
    run = generation(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps({"program": program}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - began, "peak": memory("VmHWM")}), flush=True)


main()
