#!/usr/bin/env bash
# All that only a CUDA GPU can show, in one call of less than nine minutes: tests/gpu, then the benchmarks of training,
# answering, and quantizing. A part that fails or takes too long does not stop the next one.
#
#   scripts/gpu_check.sh [--smoke] [--seconds N] [OUT]
#
# OUT (or the variable OUT; ./gpu-check without either) gets summary.txt, the table that is also printed, summary.json with
# all figures, and a log of each part. The exit code is 0 where every part passed. `--smoke` walks through all of it on a
# machine without a GPU, with tiny shapes: then the numbers mean nothing.
#
# It needs no network. It takes .venv where there is one, else the python3 (3.11 or newer) of a bare machine that has
# PyTorch 2.11 or newer for CUDA, transformers, accelerate and peft. What such a machine lacks it takes from wheels in .gpu/whl
# (or WHEELS=DIR), for its Python and platform, which are put into a folder of their own: the other packages that
# pyproject.toml names (trl, datasets, pydantic, ijson …), the extras gptq, bnb, serve and fp8, and pytest. Where one of an
# extra is missing its tests are skipped and the table says so. A pack may bring a set-up of its own as .gpu/setup.sh, and
# the built tiny model as .gpu/tiny; else that is trained first, in about a minute. Where unsloth and what it needs lie in
# .gpu/unsloth (pip install --target), it is measured beside medllm.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
python=python3
if [ -f .gpu/setup.sh ]; then
  . .gpu/setup.sh || { echo "error: .gpu/setup.sh failed" >&2; exit 2; }
elif compgen -G "${WHEELS:-.gpu/whl}/*.whl" >/dev/null; then
  site=$(mktemp -d)
  $python -m pip install -q --no-index --no-deps --no-compile --target "$site" "${WHEELS:-.gpu/whl}"/*.whl || exit 2
  if [ -d .gpu/tiny ]; then
    export MEDLLM_CACHE_DIR=$site/cache
    mkdir -p "$MEDLLM_CACHE_DIR" && cp -r .gpu/tiny "$MEDLLM_CACHE_DIR/tiny"
  fi
  export PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH}
elif [ -x .venv/bin/python ]; then
  python=.venv/bin/python
fi
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
export PYTHONPATH=${PYTHONPATH:-$PWD}
exec "$python" scripts/gpu_check.py "$@"
