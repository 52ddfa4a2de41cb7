#!/usr/bin/env bash
# All that only a GPU can tell, in one command of at most 8 minutes, from any folder:
#
#   bash benchmarks/gpu.sh --output FOLDER
#
# Writes gpu.json and gpu.md into FOLDER (the current one by default). Runs with the Python of
# $PYTHON, or of the checkout's .venv, which is made if there is none. What is measured:
# benchmarks/gpu.py.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$checkout${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-$checkout/.venv/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -x "$python" ]; then
    python3 -m venv "$checkout/.venv"
    "$python" -m pip install --quiet -e "$checkout"
fi
exec timeout 480 "$python" -m benchmarks.gpu "$@"
