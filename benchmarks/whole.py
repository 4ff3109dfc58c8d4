"""Whole commands: how soon `mess train` takes its first step, and how it scales with threads and processes.

    python benchmarks/whole.py --datapath ../data

Real processes, timed by the clock from the moment they are started, so the machine should be idle; each figure stands
beside a baseline of the same run: a Python that imports torch, and one process on one thread. Writes
docs/results/speed_whole.json, of which results.py makes a page.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import described, median, read_rows, setting, write_rows

NAME = "speed_whole"
NETWORK = ("-a", "resnet", "--layers", "20")
BATCH = 128
FIRST, LAST = 6, 26  # reports that bound the stretch that is timed, a step each
START_BAR_S = 3.0
WAYS = {  # threads a process, processes
    "one process, one thread": (1, 1),
    "one process, two threads": (2, 1),
    "two processes, one thread each": (1, 2),
}
STEP = re.compile(r"epoch 1 \[(\d+)/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--parts", nargs="+", default=["start", "scaling"], choices=["start", "scaling"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    command = [sys.executable, "-m", "mess", "train", args.data, "--datapath", str(args.datapath), *NETWORK]
    rows = read_rows(NAME)
    for part, measure in (("start", start), ("scaling", scaling)):
        if part in args.parts:
            rows[part] = {**measure(command, args.rounds), **setting()}
            print(part, rows[part], flush=True)
            write_rows(NAME, rows)


def start(command: list[str], rounds: int) -> dict[str, Any]:
    """Return seconds until the first step is done, and until a Python has imported torch."""
    imports, first = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        imports.append(time.perf_counter() - began)
        first.append(step_times(command, 1, threads=os.cpu_count() or 1)[0])
    return {"torch_s": round(median(imports), 2), "first_step_s": round(median(first), 2), "n": rounds}


def scaling(command: list[str], rounds: int) -> dict[str, Any]:
    """Return images a second of each way of using two cores, the same batches in all of them."""
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (threads, processes) in WAYS.items():
            times = step_times([*command, "--processes", str(processes)], LAST, threads=threads)
            speeds[way].append(BATCH * (LAST - FIRST) / (times[LAST - 1] - times[FIRST - 1]))
    return {"images_per_s": {way: round(median(found), 1) for way, found in speeds.items()}, "n": rounds}


def step_times(command: list[str], steps: int, *, threads: int) -> list[float]:
    """Run a training until it has taken so many steps; return when each was told, in seconds from the start."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        flags = ["-b", str(BATCH), "-p", "1", "-j", "0", "--checkpoints", folder]
        began = time.perf_counter()
        with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True, env=environment) as process:
            times: list[float] = []
            for line in process.stdout or ():
                if STEP.search(line):
                    times.append(time.perf_counter() - began)
                if len(times) == steps:
                    break
            process.terminate()
            process.communicate()
    if len(times) < steps:
        raise SystemExit(f"{' '.join(command)} ended after {len(times)} of {steps} steps")
    return times


def page(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    lines = [
        "# Speed of whole commands",
        "",
        f"`python benchmarks/whole.py`: `mess train cifar10 {' '.join(NETWORK)} -b {BATCH}` as a real process on an",
        "idle machine, by the clock; medians.",
    ]
    if "start" in rows:
        row = rows["start"]
        lines += [
            "",
            "## Until the first step is done",
            "",
            "| what | seconds | bar |",
            "|---|---:|---:|",
            f"| `python -c 'import torch'` | {row['torch_s']:.2f} | |",
            f"| `mess train` | {row['first_step_s']:.2f} | {START_BAR_S:.0f} |",
            "",
            f"n = {row['n']}. {described(row)}",
        ]
    if "scaling" in rows:
        row = rows["scaling"]
        one = row["images_per_s"][next(iter(WAYS))]
        lines += [
            "",
            "## Two cores",
            "",
            f"Steps {FIRST + 1} to {LAST}; the same global batches in every way.",
            "",
            "| way | images/s | over one thread |",
            "|---|---:|---:|",
            *(f"| {way} | {speed:.0f} | {speed / one:.2f} |" for way, speed in row["images_per_s"].items()),
            "",
            f"n = {row['n']}. {described(row)}",
        ]
    return lines


if __name__ == "__main__":
    main()
