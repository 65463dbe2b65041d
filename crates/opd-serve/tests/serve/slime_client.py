"""slime's scoring request, as its reward function sends it: python slime_client.py URL ID.."""
import asyncio, json, sys

import aiohttp


async def main(url, ids):
    params = {"temperature": 0, "max_new_tokens": 0, "skip_special_tokens": False}
    payload = {"input_ids": ids, "sampling_params": params, "return_logprob": True, "logprob_start_len": 0}
    async with aiohttp.ClientSession() as session, session.post(url, json=payload) as response:
        response.raise_for_status()
        meta = (await response.json())["meta_info"]
        print(json.dumps([entry[0] for entry in meta["input_token_logprobs"][1:]]))


asyncio.run(main(sys.argv[1], [int(x) for x in sys.argv[2:]]))
