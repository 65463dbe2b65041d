#!/usr/bin/env python3
"""Writes the Parquet files of tests/data with pyarrow 26.0.1: our own rows in the shapes of
dapo-math-17k and GSM8K, in each compression and both versions of data pages.

python3 make_samples.py data
"""

import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet as pq

out = Path(sys.argv[1])
out.mkdir(exist_ok=True)


def dapo(i):
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": f"Solve: what is {i} + {i}? Answer: \\boxed{{..}} é", "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": str(2 * i), "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"id-{i}"},
    }


def gsm8k(i):
    return {
        "question": f"Ann has {i} apples and buys {i} more. How many has she?",
        "answer": f"She has {i} + {i} = <<{i}+{i}={2 * i}>>{2 * i} apples.\n#### {2 * i}",
    }


rows = [dapo(i) for i in range(50)]
with open(out / "dapo.jsonl", "w") as file:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
with open(out / "gsm8k.jsonl", "w") as file:
    for i in range(50):
        file.write(json.dumps(gsm8k(i)) + "\n")
table = pyarrow.Table.from_pylist(rows)
for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    for version in ["1.0", "2.0"]:
        pq.write_table(
            table,
            out / f"dapo-{codec}-v{version[0]}.parquet",
            compression=codec,
            data_page_version=version,
            row_group_size=20,
            use_dictionary=codec != "gzip",
            store_schema=False,
        )
pq.write_table(
    pyarrow.Table.from_pylist([gsm8k(i) for i in range(50)]), out / "gsm8k.parquet", store_schema=False
)
