#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, the CUDA 13 toolkit and Rust:
#
#   benches/gpu/run.sh [--quick] > benches/results/gpu.jsonl
#
# checks every kernel against the CPU's at full size, times it, and times the peers where PYTHON (python3)
# has PyTorch; PEERS names a directory with liger_kernel, cut_cross_entropy and trl. One JSON object a line.
# OPD_GPU names a binary that was built elsewhere (`cargo build --release -p opd-benches --features cuda --example gpu`).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ -z "${OPD_GPU:-}" ]; then
  cargo build --release --locked --manifest-path "$root/Cargo.toml" -p opd-benches --features cuda --example gpu >&2
  OPD_GPU=$root/target/release/examples/gpu
fi
status=0
"$OPD_GPU" "$@" || status=$?
python=${PYTHON:-python3}
if "$python" -c 'import torch' 2> /dev/null; then
  "$python" "$root/benches/gpu/peers.py" --peers "${PEERS:-}" "$@" || status=$?
else
  echo 'no PyTorch: the peers were not timed' >&2
fi
exit "$status"
