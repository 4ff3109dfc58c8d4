"""A checkout that is run by a Python without torch: its own environment is taken, or one line says how to make it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mess.checkout import ensure_environment

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "main.py": [sys.executable, "-S", "main.py", "cifar10", "-a", "resnet"],
    "down_ckpt.py": [sys.executable, "-S", "down_ckpt.py", "--list"],
    "down_imagenet.py": [sys.executable, "-S", "down_imagenet.py"],
    "run.sh": ["bash", "run.sh", "--dry-run"],
    "run_cifar.sh": ["bash", "run_cifar.sh", "--dry-run"],
    "down_ckpt_all.sh": ["bash", "down_ckpt_all.sh"],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout, with a Python in it that finds no packages."""
    for name in (*COMMANDS, "src", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("main.py", "down_ckpt.py", "down_imagenet.py", "run.sh", "run_cifar.sh", "down_ckpt_all.sh"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        (tmp_path / name).chmod(0o755)
    (tmp_path / "src").unlink()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mess").mkdir()
    for path in (ROOT / "src" / "mess").iterdir():
        if path.suffix == ".py":
            (tmp_path / "src" / "mess" / path.name).write_bytes(path.read_bytes())
        elif path.is_dir():
            (tmp_path / "src" / "mess" / path.name).symlink_to(path)
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    return tmp_path


def outcome(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(checkout / "bare")}
    return subprocess.run(COMMANDS[name], cwd=checkout, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_without_an_environment_one_line_says_how_to_make_it(checkout: Path, name: str) -> None:
    run = outcome(checkout, name)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert (
        f"lacks torch, numpy, constriction, zstandard, rich, rich_argparse: `make install` in {checkout}" in run.stderr
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_environment_of_the_checkout_is_taken_with_the_same_words(checkout: Path, name: str) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "own: $@"\n')
    python.chmod(0o755)
    run = outcome(checkout, name)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("own: -S")
    assert run.stdout.rstrip().endswith(
        {"main.py": "main.py cifar10 -a resnet", "run.sh": "-m mess train-all --dry-run",
         "run_cifar.sh": "-m mess train-all cifar10 cifar100 --dry-run", "down_ckpt.py": "down_ckpt.py --list",
         "down_imagenet.py": "down_imagenet.py", "down_ckpt_all.sh": "--all -o pretrained"}[name]
    )  # fmt: skip


def test_a_python_that_has_everything_goes_on() -> None:
    ensure_environment(ROOT)
