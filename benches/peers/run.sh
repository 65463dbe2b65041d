#!/usr/bin/env bash
# The PyTorch peer of the bundled job, in one command:
#
#   benches/peers/run.sh [--student DIR --teacher DIR --data DIR] [other flags of pocket_torch.py]
#   benches/peers/run.sh --compare [flags of compare.py]     ours and PyTorch in turn, and their ratio
#   benches/peers/run.sh --kernels [flags of ratios.py]      every kernel and its twin in turn, as a table
#   benches/peers/run.sh --models MODEL_DIR [flags of models.py]
#                                                            generation, scoring and training of a model in turn
#
# The first call makes benches/peers/.venv from PyPI (5.4 GB: PyPI's torch brings its CUDA libraries;
# export PIP_EXTRA_INDEX_URL with an index of CPU builds, and TORCH=torch==2.15.0+cpu, for 1 GB).
# Without --student, the bundled job is written to target/peers/job and used. --models with --gguf builds
# llama-cpp-python for this processor first (about 10 minutes, a C++ compiler is needed).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
venv=$here/.venv
wanted=$(sed "s/^torch==.*/${TORCH:-&}/" "$here/requirements.txt")

if [ "$(cat "$venv/installed.txt" 2>/dev/null)" != "$wanted" ]; then
  echo "installing PyTorch into $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip install --quiet $wanted >&2
  printf '%s\n' "$wanted" > "$venv/installed.txt"
fi

if [ "${1:-}" = --kernels ]; then
  shift
  cargo build --quiet --release --manifest-path "$root/Cargo.toml" --locked --workspace --example kernels >&2
  exec "$venv/bin/python" "$here/ratios.py" "$@"
fi

if [ "${1:-}" = --models ]; then
  shift
  case " $* " in
    *" --gguf "*)
      "$venv/bin/python" -c "import llama_cpp" 2>/dev/null ||
        "$venv/bin/python" -m pip install --quiet --no-binary llama-cpp-python llama-cpp-python==0.3.36 >&2
      ;;
  esac
  cargo build --quiet --release --manifest-path "$root/Cargo.toml" --locked --workspace --example models >&2
  exec "$venv/bin/python" "$here/models.py" "$@"
fi

job=()
case " $* " in
  *" --student "*) ;;
  *)
    job=("$root/target/peers/job")
    cargo run --quiet --release --locked --manifest-path "$root/Cargo.toml" --example materialize -- "${job[0]}" >&2
    job=(--student "${job[0]}/student" --teacher "${job[0]}/teacher" --data "${job[0]}")
    ;;
esac

if [ "${1:-}" = --compare ]; then
  shift
  cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin opd >&2
  exec "$venv/bin/python" "$here/compare.py" "${job[@]}" "$@"
fi
exec "$venv/bin/python" "$here/pocket_torch.py" "${job[@]}" "$@"
