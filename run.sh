#!/usr/bin/env bash
# Train all networks on every dataset, or go on with it; flags as of `mess train-all`, which says more with --help.
# Without PYTHON and without an activated environment, .venv is taken (see src/mess/checkout.py).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$here/src${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m mess train-all "$@"
