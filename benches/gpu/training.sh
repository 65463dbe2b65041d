#!/usr/bin/env bash
# Training on a GPU: the default job, as it comes, and steps of a model of the size of Qwen3-0.6B whose teacher
# is another one, with random weights, in f32 and with products of bf16.
#
#   benches/gpu/training.sh OPD TOKENIZER [DIR]
#
# OPD is an `opd` with the feature `cuda`, TOKENIZER a Hugging Face directory with config.json, tokenizer.json and
# tokenizer_config.json. Needs a driver for CUDA 13, its libraries (see benches/gpu/libraries), and Python with
# PyTorch and transformers (PYTHON). Writes DIR/default.jsonl, DIR/large-f32.jsonl and DIR/large-bf16.jsonl, the
# metrics of every step (DIR is target/gpu/results), and prints what the runs print last. LAYERS (28), STEPS (6)
# and DEVICE (cuda:0) may be set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
opd=$(realpath "${1:?an opd}") tokenizer=$(realpath "${2:?a tokenizer}")
out=${3:-$here/../../target/gpu/results}
python=$(realpath -s "$(command -v "${PYTHON:-python3}")") device=${DEVICE:-cuda:0}
LD_LIBRARY_PATH=$("$here/libraries")
export LD_LIBRARY_PATH
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$opd" train --device "$device" --output default 2>&1 | tail -n 12
cp default/metrics.jsonl "$out/default.jsonl"

for seed in 0 1; do
  "$python" "$here/random_model.py" "model-$seed" --tokenizer "$tokenizer" --seed "$seed" --layers "${LAYERS:-28}"
done
for i in $(seq 64); do
  printf '{"prompt": "Question %d: what is %d times %d, and how does one see it without a calculator?"}\n' "$i" "$((i * 7))" "$((i + 31))"
done > prompts.jsonl
for precision in f32 bf16; do
  "$opd" train --device "$device" --precision "$precision" --output "$precision" \
    --hf-checkpoint model-0 --use-opd --opd-type in-process --opd-teacher-load model-1 \
    --prompt-data prompts.jsonl --input-key prompt --steps "${STEPS:-6}" --rollout-batch-size 16 \
    --n-samples-per-prompt 4 --rollout-max-response-len 256 --lr 1e-5 --eval-interval 0 2>&1 | tail -n 12
  cp "$precision/metrics.jsonl" "$out/large-$precision.jsonl"
done
