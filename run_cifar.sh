#!/usr/bin/env bash
# Train all networks on CIFAR-10 and CIFAR-100, or go on with it; flags as of `mess train-all`.
set -euo pipefail
exec "$(dirname "$0")/run.sh" cifar10 cifar100 "$@"
