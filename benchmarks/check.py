"""Guard of speed: measure again, and fail where a ratio has become more than 20 % worse than in docs/results.

    python benchmarks/check.py --datapath ../data [--data digits]

Only ratios to a baseline of the same run are compared, never seconds. Nothing in docs/results is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS

LOSS = 0.2
HERE = Path(__file__).parent
Ratios = dict[str, float]  # what is measured → how many times better than its baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--data", default="cifar10")
    args = parser.parse_args()
    data = ["--datapath", str(args.datapath), "--data", args.data]
    with tempfile.TemporaryDirectory() as folder:
        for command in (
            ["training.py", "--networks", "ResNet-20", *data],
            ["storing.py", "--networks", "ResNet-20", "--versions", "v2", "v4"],
        ):
            subprocess.run(
                [sys.executable, str(HERE / command[0]), *command[1:]],
                check=True, stdout=subprocess.DEVNULL, env={**os.environ, "BENCH_RESULTS": folder},
            )  # fmt: skip
        found, before = ratios(Path(folder)), ratios(RESULTS)
    lost = losses(found, before)
    for name, ratio in found.items():
        was = f"{before[name]:.3f}" if name in before else "none"
        print(f"{name}: {ratio:.3f}, before {was}{'  LOST' if name in lost else ''}")
    if lost:
        raise SystemExit(f"{len(lost)} of {len(found)} ratios are more than {LOSS:.0%} worse than in {RESULTS}")


def ratios(folder: Path) -> Ratios:
    """Return every ratio that a folder of results has; larger is better."""
    found: Ratios = {}
    for name, row in _read(folder / "speed_training.json").items():
        if name == "scheme":
            found |= {f"training {way}": 1 / cost for way, cost in row["cost"].items()}
        else:
            found[f"training {name}"] = row["ratio"]
    found |= {f"storing {k}": 1 / row["teraproducts"] for k, row in _read(folder / "speed_storing.json").items()}
    return found


def losses(found: Ratios, before: Ratios) -> list[str]:
    """Return what has become more than 20 % worse; what was not measured before cannot."""
    return [name for name, ratio in found.items() if name in before and ratio < (1 - LOSS) * before[name]]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    main()
