"""Damaged files: runs the programs that damage them, and keeps what they found. `make fuzz` and `make fuzz-c` run it.

    python benchmarks/fuzz.py format                      # damaged at random, for the reader in Python
    python benchmarks/fuzz.py coverage --seconds 300      # changed until new code is reached: atheris, in .venv-atheris
    python benchmarks/fuzz.py c --seconds 600             # the same for the decoder in C: build/mess_fuzzer, libFuzzer
    python benchmarks/fuzz.py beside                      # C beside Python (gcc with its sanitizers)
    python benchmarks/fuzz.py killed                      # a writer killed 200 times

Each writes its row of docs/results/fuzz.json and leaves with 1 where there is a finding: what failed is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, read_rows, setting, write_rows

TESTS = ROOT / "tests"
ATHERIS = ROOT / ".venv-atheris" / "bin" / "python"
LIMITS = ["-rss_limit_mb=3072", "-print_final_stats=1"]
EACH = 3332  # damaged files of each file that C reads beside Python
KILLS = 200
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WAYS))
    parser.add_argument("--n", type=int, default=100_000, help="damaged files (format)")
    parser.add_argument("--seconds", type=int, default=600, help="of libFuzzer and atheris")
    args = parser.parse_args()
    found = WAYS[args.what](args)
    place = {key: value for key, value in setting().items() if key in ("commit", "machine")}
    write_rows("fuzz", {**read_rows("fuzz"), args.what: {**found, **place}})
    print(args.what, found)


def by_format(args: argparse.Namespace) -> Row:
    command = [sys.executable, TESTS / "fuzz_format.py", "--n", str(args.n), "--json"]
    return json.loads(_run(command).splitlines()[-1])


def by_coverage(args: argparse.Namespace) -> Row:
    if not ATHERIS.exists():
        raise SystemExit(f"{ATHERIS} is not there: tests/fuzz_coverage.py says what it needs")
    with tempfile.TemporaryDirectory() as corpus:
        return _libfuzzer([ATHERIS, TESTS / "fuzz_coverage.py", corpus, "-timeout=10"], args.seconds)


def by_c(args: argparse.Namespace) -> Row:
    build = ROOT / "build"
    if not (build / "mess_fuzzer").exists():
        raise SystemExit("build/mess_fuzzer is not there: make fuzz-c builds it")
    return _libfuzzer([build / "mess_fuzzer", build / "fuzz-c", "-timeout=10", "-max_len=8192"], args.seconds)


def _libfuzzer(command: list[Any], seconds: int) -> Row:
    """Run a libFuzzer of either kind; a finding ends it with the input that it is."""
    output = _run([*command, *LIMITS, f"-max_total_time={seconds}"])
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    edges = re.findall(r"cov: (\d+)", output)
    if executed is None or not edges:
        raise SystemExit(f"no figures at the end of {command[0]}")
    return {"files": int(executed[1]), "edges": int(edges[-1]), "findings": 0, "minutes": seconds / 60}


def by_beside(_args: argparse.Namespace) -> Row:
    sys.path.insert(0, str(TESTS))
    import c_decoder
    from damage import mutants

    files, damaged, read = c_decoder.examples(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        program = c_decoder.compiled(Path(folder), *c_decoder.STRICT, "-O1", *c_decoder.SANITIZERS)
        for seed, content in enumerate(files.values()):
            changed = list(mutants(content, EACH, 1000 + seed))
            read += c_decoder.read_by_both(program, changed)
            damaged += len(changed)
    return {"files": damaged, "alike": damaged, "read": read}


def by_killing(_args: argparse.Namespace) -> Row:
    sys.path.insert(0, str(TESTS))
    from test_durability import kill_often

    with tempfile.TemporaryDirectory() as folder:
        kill_often(Path(folder) / "net.mess", KILLS)
    return {"kills": KILLS, "whole": KILLS}


def _run(command: list[Any]) -> str:
    """Run a program and show what it says; return it, or leave where it fails."""
    paths = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{TESTS}"}
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **paths},
    )
    lines = []
    for line in process.stdout or ():
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise SystemExit(1)
    return "".join(lines)


WAYS: dict[str, Callable[[argparse.Namespace], Row]] = {
    "format": by_format,
    "coverage": by_coverage,
    "c": by_c,
    "beside": by_beside,
    "killed": by_killing,
}

if __name__ == "__main__":
    main()
