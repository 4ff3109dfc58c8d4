"""The public face is typed: a strict type checker passes a program that uses all of it, and sees errors in others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mess

CLIENT = Path(__file__).with_name("typed_client.py")
SOURCES = Path(mess.__file__).parents[1]
WRONG = """
import mess

mess.compress("net.pth", "net.mess", targetsize=3)
mess.compress("net.pth", "net.mess", layers={"a": "kept"})
mess.load("net.mess", dtype=8)
mess.SizeRaport
mess.inspect("net.mess").byte
"""


def test_the_program_uses_every_public_name() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    assert [name for name in mess.__all__ if f"mess.{name}" not in text] == []


@pytest.mark.slow  # 20 s, most of them for torch's own types
@pytest.mark.timeout(600)
def test_a_strict_type_checker_passes_the_program_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path / 'cache'}",
    ]
    environment = {"MYPYPATH": str(SOURCES), "PATH": ""}
    for program, wanted in ((CLIENT, set()), (tmp_path / "wrong.py", {4, 5, 6, 7, 8})):
        run = subprocess.run(
            [*command, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
        errors = [line for line in run.stdout.splitlines() if ": error:" in line]
        assert {int(line.split(":")[1]) for line in errors} == wanted, run.stdout + run.stderr
