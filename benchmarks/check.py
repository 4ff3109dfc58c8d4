"""Guard of speed: measure again, and fail where a ratio has become more than 20 % worse than in docs/results.

    python benchmarks/check.py --datapath ../data [--data digits]

Only ratios to a baseline of the same run are compared, never seconds, and only with those of the same kind of machine:
one processor multiplies matrices twice as fast as another that copies as fast. Nothing in docs/results is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from common import RESULTS

LOSS = 0.2
HERE = Path(__file__).parent


class Ratio(NamedTuple):
    """How many times better than its baseline something is, and where that was measured."""

    value: float
    machine: str


Ratios = dict[str, Ratio]  # by what is measured


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
        print(f"{name}: {ratio.value:.3f}, before {_said(before.get(name), ratio)}{'  LOST' if name in lost else ''}")
    if lost:
        raise SystemExit(f"{len(lost)} of {len(found)} ratios are more than {LOSS:.0%} worse than in {RESULTS}")


def ratios(folder: Path) -> Ratios:
    """Return every ratio that a folder of results has; larger is better."""
    found: Ratios = {}
    for name, row in _read(folder / "speed_training.json").items():
        if name == "scheme":
            found |= {f"training {way}": Ratio(1 / cost, row["machine"]) for way, cost in row["cost"].items()}
        else:
            found[f"training {name}"] = Ratio(row["ratio"], row["machine"])
    for name, row in _read(folder / "speed_storing.json").items():
        found[f"storing {name}"] = Ratio(1 / row["teraproducts"], row["machine"])
    return found


def losses(found: Ratios, before: Ratios) -> list[str]:
    """Return what has become more than 20 % worse; what was not measured on such a machine before cannot."""
    return [
        name
        for name, ratio in found.items()
        if name in before and ratio.machine == before[name].machine and ratio.value < (1 - LOSS) * before[name].value
    ]


def _said(before: Ratio | None, now: Ratio) -> str:
    if before is None:
        return "none"
    elsewhere = f" on {before.machine}: not compared" if before.machine != now.machine else ""
    return f"{before.value:.3f}{elsewhere}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    main()
