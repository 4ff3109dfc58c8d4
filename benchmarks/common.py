"""What the benchmarks share: where results go, what they ran on, and how a timing is taken."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from mess.files import atomic_write

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "docs" / "results"))  # elsewhere for `make bench-check`


def one_level_down(lines: Iterable[str]) -> list[str]:
    """Return a page as a part of another: its headings are a level lower."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def setting() -> dict[str, Any]:
    """Return the commit, machine and versions that stand beside every figure; without a history, BENCH_COMMIT."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "commit": os.environ.get("BENCH_COMMIT") or commit.stdout.strip(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "seed": 0,
    }


def processor() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_rows(name: str) -> Any:
    """Return the rows docs/results/NAME.json has, or none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_rows(name: str, rows: dict[str, Any]) -> None:
    """Write docs/results/NAME.json."""
    atomic_write(RESULTS / f"{name}.json", (json.dumps(rows, indent=1, sort_keys=True) + "\n").encode())


def write_page(name: str, lines: list[str]) -> None:
    """Write docs/results/NAME.md."""
    atomic_write(RESULTS / f"{name}.md", ("\n".join(lines).rstrip("\n") + "\n").encode())


def in_a_process(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns in a process of its own, so that no row meets what another has left behind."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def alternating(
    tasks: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time tasks in turns, so that a slow spell of the machine meets all of them; return seconds of each round."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            start = clock()
            task()
            seconds[name].append(clock() - start)
    return seconds


def median(numbers: list[float]) -> float:
    """Return the median."""
    ordered = sorted(numbers)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def described(row: dict[str, Any]) -> str:
    """Return one line that says where a row was measured."""
    return f"Commit {row['commit']}, {row['machine']}, {row['threads']} threads, torch {row['torch']}."


def all_described(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return lines that say where rows were measured: one for each place, with how many of them are from there."""
    counts = Counter(described(row) for row in rows)
    if len(counts) == 1:
        return list(counts)
    return [f"- {count} rows: {place}" for place, count in counts.items()]
