"""Storing: seconds and memory of `compress` by network and version, each in a process of its own.

    python benchmarks/storing.py [--versions v2 v4] [--networks ...]

Weights are random: the work is the same. Every process multiplies matrices before and after, and seconds are also given
as a ratio to the time of a product of 10^12 operations there and then, so that rows of a busy machine, or of another
one, can be compared. Writes docs/results/speed_storing.json, of which results.py makes a page.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import mess
from common import all_described, read_rows, setting, write_rows

NAME = "speed_storing"
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-20": {"arch": "resnet", "dataset": "cifar10", "layers": 20},
    "ResNet-56": {"arch": "resnet", "dataset": "cifar10", "layers": 56},
    "MobileNetV2": {"arch": "mobilenetv2", "dataset": "cifar10"},
    "WideResNet-28-10": {"arch": "wideresnet", "dataset": "cifar10", "layers": 28, "width_mult": 10.0},
    "ResNet-50, ImageNet": {"arch": "resnet", "dataset": "imagenet", "layers": 50},
    "WideResNet-28-17": {"arch": "wideresnet", "dataset": "cifar10", "layers": 28, "width_mult": 17.0},  # 10^8 weights
}
VERSIONS = ("v1", "v2", "v2a", "v3", "v4")
# seconds to store by the clock, 10^9 bytes, seconds to load
BARS = {("ResNet-50, ImageNet", "v2"): (20, 2.0, 1.5), ("ResNet-50, ImageNet", "v4"): (180, 2.0, 1.5)}
SIDE = 1024  # of the matrices that are multiplied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--versions", nargs="+", default=VERSIONS, choices=VERSIONS)
    parser.add_argument("--one", action="store_true", help="measure the one network and version in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.networks[0], args.versions[0])))
        return
    rows = read_rows(NAME)
    for name in args.networks:
        for version in args.versions:
            command = [sys.executable, __file__, "--one", "--networks", name, "--versions", version]
            found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            rows[f"{name}|{version}"] = {**json.loads(found.stdout.splitlines()[-1]), **setting()}
            print(name, version, rows[f"{name}|{version}"], flush=True)
            write_rows(NAME, rows)


def measured(name: str, version: str) -> dict[str, Any]:
    """Store one network; v4 has no images and makes some up."""
    torch.manual_seed(0)
    model = mess.create_model(**NETWORKS[name])
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    before = tera()
    imported = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        report = mess.compress(model, Path(folder) / "net.mess", version, verify=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = peak_bytes()
        loading = time.perf_counter()
        mess.load(report.path)
        loading = time.perf_counter() - loading
    rate = (before + tera()) / 2
    return {
        "weights": weights,
        "bytes": report.bytes,
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "load_s": round(loading, 2),
        "teraproducts": round(cpu / rate, 4),
        "peak_bytes": peak,
        "peak_before": imported,
    }


def tera() -> float:
    """Return processor seconds that 10^12 float32 multiplications and additions take in a matrix product."""
    a = torch.randn(SIDE, SIDE)
    a @ a
    start = time.process_time()
    for _ in range(10):
        a @ a
    return (time.process_time() - start) * 1e12 / (10 * 2 * SIDE**3)


def peak_bytes() -> int:
    """Return the most memory this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def page(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    lines = [
        "# Speed of storing",
        "",
        "`python benchmarks/storing.py`: `compress` by network and version, and `mess.load` of the file; random",
        "weights, default options, v4 no images. Each row is a process of its own, n = 1. Seconds by the clock, and",
        "processor seconds of all threads; × is their ratio to a matrix product of 10^12 operations there. Memory is",
        "the peak of the process, torch and the network included. Random weights decide nothing, and v4 leaves hardly",
        "anything of them: what it takes of trained networks stands in [Accuracy and bytes](answers.md), with seconds",
        "and memory.",
        "",
        "| network | weights | version | bytes | s | processor s | × | s/million weights | peak MB | load, s | bar |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    order = {name: place for place, name in enumerate(NETWORKS)}
    for key in sorted(rows, key=lambda k: (order[k.split("|")[0]], k)):
        name, version = key.split("|")
        row, bar = rows[key], BARS.get((name, version))
        size = "–" if version == "v4" else f"{row['bytes']:,}"
        limit = f"{bar[0]} s, {bar[1]:.0f} GB, load {bar[2]} s" if bar else ""
        lines.append(
            f"| {name} | {row['weights']:,} | {version} | {size} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} |"
            f" {row['teraproducts']:.2f} | {1e6 * row['cpu_s'] / row['weights']:.2f} |"
            f" {row['peak_bytes'] / 1e6:.0f} | {row['load_s']:.2f} | {limit} |"
        )
    return [*lines, "", *all_described(rows.values())]


if __name__ == "__main__":
    main()
