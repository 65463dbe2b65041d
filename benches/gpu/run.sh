#!/usr/bin/env bash
# Checks and times of the CUDA kernels and their peers, for a machine that has a GPU but neither Rust nor a
# network.
#
#   benches/gpu/run.sh build                       with Rust, gcc and PyPI: fills target/gpu
#   benches/gpu/run.sh run [--quick] [--out DIR]   with the GPU, on a copy of this tree with target/gpu
#
# `build` leaves target/gpu/gpu, target/gpu/opd (for benches/gpu/training.sh) and, unless OPD_SANITIZER=no,
# compute-sanitizer. It takes the toolkit that CUDA_HOME names or makes one (benches/gpu/toolkit).
#
# `run` needs a driver for CUDA 13 (580 or newer) and libcublas.so.13, libcublasLt.so.13, libcurand.so.10 and
# libnvrtc.so.13, in LD_LIBRARY_PATH, CUDA_HOME, /usr/local/cuda or a PyTorch for CUDA 13. It writes DIR/gpu.jsonl,
# one JSON object a line, DIR/sanitizer.log and DIR/summary.md (DIR is target/gpu/results), prints the last and
# is done in OPD_SECONDS (540). PYTHON (python3) with PyTorch times the peers; PEERS names a directory with
# liger_kernel, cut_cross_entropy and trl. Exits with 1 if anything was wrong.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
carried=$root/target/gpu

build() {
  if [ -z "${CUDA_HOME:-}" ]; then
    exports=$("$here/toolkit")
    eval "$exports"
  fi
  cargo build --release --locked --manifest-path "$root/Cargo.toml" --target-dir "$root/target/cuda" \
    -p opd-benches -p opd-cli --features opd-benches/cuda,opd-cli/cuda --example gpu --bin opd
  mkdir -p "$carried"
  strip -o "$carried/gpu" "$root/target/cuda/release/examples/gpu"
  strip -o "$carried/opd" "$root/target/cuda/release/opd"
  if [ "${OPD_SANITIZER:-}" != no ] && [ ! -d "$carried/sanitizer" ]; then
    wheels=$(mktemp -d)
    python3 -m pip download -q --no-deps -d "$wheels" nvidia-cuda-sanitizer-api==13.0.85
    python3 -m zipfile -e "$wheels"/*.whl "$wheels/files"
    rm -rf "$wheels/files/nvidia/cu13/include"
    chmod +x "$wheels/files/nvidia/cu13/bin/compute-sanitizer"
    mv "$wheels/files/nvidia/cu13" "$carried/sanitizer"
    rm -rf "$wheels"
  fi
  du -sh "$carried"/*
}

# Seconds that are left, at least 1.
left() {
  local rest=$((${OPD_SECONDS:-540} - SECONDS))
  echo $((rest > 1 ? rest : 1))
}

run() {
  local quick=() out=$carried/results status=0
  while [ $# -gt 0 ]; do
    case "$1" in
      --quick) quick=(--quick) ;;
      --out) out=${2:?--out needs a directory} && shift ;;
      *) echo "unknown argument $1; see the head of $here/run.sh" >&2 && exit 2 ;;
    esac
    shift
  done
  python=${PYTHON:-python3}
  binary=${OPD_GPU:-$carried/gpu}
  [ -x "$binary" ] || { echo "no $binary: run '$0 build' where there is Rust, and bring target/gpu" >&2; exit 1; }
  mkdir -p "$out"
  LD_LIBRARY_PATH=$("$here/libraries")
  export LD_LIBRARY_PATH
  if missing=$(ldd "$binary" 2> /dev/null | grep 'not found'); then
    echo "libraries that $binary needs are missing, put them into LD_LIBRARY_PATH:" >&2
    echo "$missing" >&2
    exit 1
  fi
  # Times first, while nothing else runs.
  timeout "$(left)" "$binary" "${quick[@]}" --times > "$out/gpu.jsonl" || status=1
  if "$python" -c 'import torch' 2> /dev/null; then
    timeout "$(left)" "$python" "$here/peers.py" --peers "${PEERS:-}" "${quick[@]}" >> "$out/gpu.jsonl" ||
      { echo 'the peers did not finish' >&2; status=1; }
  else
    echo 'no PyTorch: the peers were not timed' >&2
  fi
  local checks sanitizer result=0
  timeout "$(left)" "$binary" "${quick[@]}" --checks > "$out/checks.jsonl" &
  checks=$!
  sanitizer=$(command -v compute-sanitizer || echo "$carried/sanitizer/bin/compute-sanitizer")
  if [ -x "$sanitizer" ]; then
    timeout "$(left)" "$sanitizer" --tool memcheck --error-exitcode 9 "$binary" --quick --checks \
      > "$out/sanitizer.log" 2>&1 || result=$?
    [ "$result" -eq 0 ] || status=1
    printf '{"sanitizer": "memcheck", "exit": %d}\n' "$result" >> "$out/gpu.jsonl"
  else
    echo 'no compute-sanitizer: memory accesses were not checked' >&2
  fi
  wait "$checks" || status=1
  cat "$out/checks.jsonl" >> "$out/gpu.jsonl"
  rm "$out/checks.jsonl"
  "$python" "$here/summary.py" "$out/gpu.jsonl" | tee "$out/summary.md"
  exit "$status"
}

case "${1:-}" in
  build) build ;;
  run) shift && run "$@" ;;
  *) sed -n '2,/^set/p' "$0" | grep '^#' | cut -c 3- >&2 && exit 2 ;;
esac
