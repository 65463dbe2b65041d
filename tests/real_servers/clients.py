"""Clients of SGLang, each asked of a real SGLang and of `opd serve`: what they read must be the same.

    clients.py SGLANG_URL OPD_URL KEY

Both serve the bundled teacher. Log-probs may differ by 1e-4, everything else by nothing. Fails with
the path of the first difference; prints how much was compared.
"""

import asyncio
import math
import sys

import aiohttp
import sglang
from sglang.lang.backend.runtime_endpoint import RuntimeEndpoint

# They tell one answer from another, or how long it took.
OWN = {"id", "e2e_latency", "response_sent_to_client_ts", "cached_tokens", "cached_tokens_details", "dp_rank"}
OWN |= {"weight_version", "weight_versions"}
TOLERANCE = 1e-4


class Compared:
    numbers = 0
    largest = 0.0


def same(there, here, path):
    """`here` has all that `there` has."""
    if isinstance(there, dict):
        for field in there.keys() - OWN:
            assert field in here, f"{path}.{field} is missing; there it is {there[field]!r}"
            same(there[field], here[field], f"{path}.{field}")
    elif isinstance(there, (list, tuple)):
        assert len(there) == len(here), f"{path}: {len(there)} there, {len(here)} here: {there!r}, {here!r}"
        for index, (a, b) in enumerate(zip(there, here)):
            same(a, b, f"{path}[{index}]")
    elif isinstance(there, float) and isinstance(here, (int, float)):
        off = 0.0 if there == here or (math.isnan(there) and math.isnan(here)) else abs(there - here)
        assert off <= TOLERANCE * max(1.0, abs(there) / 10), f"{path}: {there} there, {here} here"
        Compared.numbers, Compared.largest = Compared.numbers + 1, max(Compared.largest, off)
    else:
        assert there == here, f"{path}: {there!r} there, {here!r} here"


async def slime(url, key, ids):
    """The reward function of slime: its request, and what it makes of the answer."""
    sampling = {"temperature": 1.0, "max_new_tokens": 0, "skip_special_tokens": False}
    payload = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True, "logprob_start_len": 0}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        async with session.post(f"{url}/generate", json=payload) as response:
            response.raise_for_status()
            reward = await response.json()
    return [item[0] for item in reward["meta_info"]["input_token_logprobs"][1:]], reward


@sglang.function
def continuation(s, text):
    s += text
    s += sglang.gen(
        "next",
        max_tokens=1,
        temperature=0,
        return_logprob=True,
        logprob_start_len=0,
        top_logprobs_num=3,
        return_text_in_logprobs=True,
    )


@sglang.function
def likeliest(s, text, choices):
    s += text
    # The other methods of 0.5.23 stumble over the null that SGLang has in the first place.
    s += sglang.select("chosen", choices=choices, choices_method=sglang.token_length_normalized)


def lang(url, key):
    """SGLang's own client: its front-end language over HTTP."""
    backend = RuntimeEndpoint(url, api_key=key)
    backend.flush_cache()
    backend.cache_prefix("8312")
    said = {"model": backend.get_model_name(), "length": backend.get_server_info()["context_length"]}
    for text in ["83120975", "1", "00000000"]:
        state = continuation.run(text=text, backend=backend)
        said[text] = [state.text(), state["next"], state.get_meta_info("next")]
    for text, choices in [("8312", ["1238", "2138", "83"]), ("57", ["5", "6", "77"])]:
        state = likeliest.run(text=text, choices=choices, backend=backend)
        said[f"{text} .."] = [state["chosen"], state.get_meta_info("chosen")]
    return said


def main(sglang_url, opd_url, key):
    same(lang(sglang_url, key), lang(opd_url, key), "lang")
    for ids in [[10, 5, 3, 4, 2, 11, 9, 7], [2, 2], [7]]:
        there, here = (asyncio.run(slime(url, key, ids)) for url in (sglang_url, opd_url))
        assert len(here[0]) == len(ids) - 1
        same(there, here, f"slime {ids}")
    assert Compared.numbers > 100, Compared.numbers
    print(f"clients: {Compared.numbers} numbers the same, largest difference {Compared.largest:.1e}")


main(*sys.argv[1:])
