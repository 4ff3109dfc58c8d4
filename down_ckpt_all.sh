#!/usr/bin/env bash
# Fetch all public weights there are, into pretrained/ (or the folder given).
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-python3}" down_ckpt.py --all -o "${1:-pretrained}"
