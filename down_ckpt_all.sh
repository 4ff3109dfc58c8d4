#!/usr/bin/env bash
# Fetch all public weights there are, into pretrained/ (or the folder given).
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/down_ckpt.py" --all -o "${1:-pretrained}"
