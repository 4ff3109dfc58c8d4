"""Version v4 on public networks as they are: bytes of real files, accuracy of what is read back, and time.

    python benchmarks/size.py --datapath ../data --network resnet20=resnet20.th --network resnet56=resnet56.th

Calibrated rows look at the first 1,024 training images, without labels. Rows that docs/results/size.json has already
are not measured again. Writes docs/results/size.md too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from common import read_rows, setting, write_page, write_rows
from mess import models
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD
from mess.recipes import DataChoice, calibration_inputs, score_network
from mess.storing import compress_learned
from mess.training import load_weights

WAYS = ("calibrated", "without images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--network", action="append", required=True, metavar="NAME=FILE", help="resnetN=weights file")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    rows = read_rows("size")
    for text in args.network:
        name, _, file = text.partition("=")
        for way in args.ways:
            for seed in args.seeds:
                key = f"{name}|{way}|{seed}"
                if key not in rows:
                    rows[key] = {**measure(name, file, way, seed, args.datapath), **setting(), "seed": seed}
                    write_rows("size", rows)
                    print(key, rows[key])
    write_page("size", table(rows))


def measure(name: str, file: str, way: str, seed: int, datapath: Path) -> dict[str, Any]:
    data = DataChoice("cifar10", datapath, 0, IMAGENET_MEAN, IMAGENET_STD)
    architecture = models.resolve("resnet", "cifar10", layers=int(name.removeprefix("resnet")))
    inputs = None
    if way == "calibrated":
        inputs = calibration_inputs(data)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "net.mess"
        start = time.perf_counter()
        report = compress_learned(load_weights(file)[0], target, inputs, architecture=architecture, seed=seed)
        seconds = time.perf_counter() - start
        top1 = score_network(data, architecture, str(target)).scores.top1
        return {"bytes": report.bytes, "top1": top1, "seconds": round(seconds)}


def table(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    lines = [
        "# Version v4, public float networks, CIFAR-10",
        "",
        "JPEG-recoded CIFAR-10, accuracy on all 10,000 test images of the network read back from the file; default",
        "options; one row a seed. Made by `python benchmarks/size.py` (its docstring has the command); size.json has",
        "commit, machine and versions of each row. Seconds are of storing, on a machine with other work to do.",
        "How far v4 goes by default (its divergence) was set while looking at ResNet-20's test accuracy, not at",
        "ResNet-56's; files of ResNet-20 that differ in details scatter by several tenths of a point.",
        "",
        "| network | way | seed | bytes | top-1 % | seconds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for key in sorted(rows):
        name, way, seed = key.split("|")
        row = rows[key]
        lines.append(f"| {name} | {way} | {seed} | {row['bytes']:,} | {row['top1']:.2f} | {row['seconds']} |")
    return lines


if __name__ == "__main__":
    main()
