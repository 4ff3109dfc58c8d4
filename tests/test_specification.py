"""The specification's own words, read from its page: every flag, metavar and default, and every command."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mess.cli import make_parser

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "main.py": ("train", "main.py", "add_arguments"),
    "down_imagenet.py": ("fetch", "down_imagenet.py", "add_imagenet_arguments"),
    "down_ckpt.py": ("fetch", "down_ckpt.py", "add_ckpt_arguments"),
}
# a family or a way of training puts its own in the place of these; the help says the specification's
LEFT_OPEN = {"layers": "16", "groups": "2", "lr": "0.1"}
ENTRY = re.compile(r"^  (?P<names>\S.*?)(?:\s{2,}|\n\s+)(?P<help>.*(?:\n {8,}.*)*)", re.MULTILINE)


@pytest.fixture
def specification(shared: Path) -> str:
    return (shared / "specification.md").read_text(encoding="utf-8")


def usages(text: str) -> dict[str, str]:
    """Return the help pages in the text by program."""
    return {m[1]: m[0] for m in re.finditer(r"^usage: (\S+) .*?^```$", text, re.MULTILINE | re.DOTALL)}


def entries(page: str) -> list[tuple[list[str], str, str | None]]:
    """Return (flags, metavar, default) of each argument on a help page; a positional's name is its metavar."""
    found = []
    for entry in ENTRY.finditer(page.partition(" arguments:\n")[2]):
        names = [name.split(" ", 1) for name in entry["names"].split(", ")]
        default = re.search(r"\((?:default|defualt): ([^)]*)\)", " ".join(entry["help"].split()), re.IGNORECASE)
        flags = [name[0] for name in names if name[0].startswith("-")]
        metavar = (names[0][1] if len(names[0]) > 1 else "") if flags else names[0][0]
        found.append((flags, metavar, default[1] if default else None))
    return found


def metavar_of(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    return f"{action.metavar} [{action.metavar} ...]" if action.nargs == "+" else str(action.metavar)


def default_of(action: argparse.Action) -> str:
    value = LEFT_OPEN.get(action.dest, action.default)
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return str(value).lower()


def same(ours: str, theirs: str) -> bool:
    """Return whether two defaults are one: 5e-4 is 0.0005."""
    try:
        return float(ours) == float(theirs)
    except ValueError:
        return ours == theirs.lower()


def test_every_flag_metavar_and_default_is_the_specifications(specification: str) -> None:
    pages = usages(specification)
    assert set(pages) == {"main.py", "down_imagenet.py"}
    assert len(entries(pages["main.py"])) == 30
    for program, page in pages.items():
        parser = make_parser(*PROGRAMS[program])
        for flags, metavar, default in entries(page):
            action = next(
                a for a in parser._actions if (flags[0] in a.option_strings if flags else a.metavar == metavar)
            )
            assert list(action.option_strings) == flags, program
            assert metavar_of(action) == metavar, flags
            if default is not None and action.dest != "help":
                assert same(default_of(action), default), (flags, default, default_of(action))
        # a flag without a value is off, where the page says no default
        switches = {flags[0] for flags, metavar, _ in entries(page) if not metavar and "-h" not in flags}
        args = parser.parse([])
        assert not any(getattr(args, a.dest) for a in parser._actions if switches & {*a.option_strings})


def test_the_help_that_is_printed_says_the_specifications_defaults(specification: str) -> None:
    printed = " ".join(make_parser(*PROGRAMS["main.py"]).format_help().split())
    for flags, metavar, default in entries(usages(specification)["main.py"]):
        for flag in flags:
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", printed), flag
        assert metavar.split()[0] in printed if metavar else True
        if default is not None:
            assert f"(default: {default.lower()}" in printed.lower(), flags


def test_every_command_of_the_specification_is_there_and_understood(specification: str) -> None:
    blocks = re.findall(r"^``` ?shell\n(.*?)^```$", specification, re.MULTILINE | re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line]
    assert len(commands) == 9
    for command in commands:
        words = shlex.split(command)
        if words[0].startswith("python"):
            args = make_parser(*PROGRAMS[words[1]]).parse(words[2:])
            assert (ROOT / words[1]).read_text().startswith("#!/usr/bin/env python3\n")
            assert args.explicit.keys() >= {"data", "arch"} or words[1] == "down_imagenet.py"
        elif words[0] == "rm":
            assert words[-1] == f"{make_parser('clean').get_default('folder')}/*/*/ckpt_epoch_*.pth"
        else:
            assert os.access(ROOT / words[0], os.X_OK), words[0]


# run_cifar.sh starts run.sh, and down_ckpt_all.sh down_ckpt.py
@pytest.mark.parametrize("program", ["main.py", "down_imagenet.py", "run_cifar.sh", "down_ckpt_all.sh"])
def test_programs_run_from_any_folder_and_without_the_package_on_the_path(program: str, tmp_path: Path) -> None:
    activated = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    asked = {"run_cifar.sh": "--dry-run", "down_ckpt_all.sh": "/dev/null/nowhere"}.get(program, "--help")
    run = subprocess.run([ROOT / program, asked], capture_output=True, text=True, cwd=tmp_path, env=activated)
    if program == "down_ckpt_all.sh":  # it gets as far as making its folder
        assert (run.returncode, run.stderr[:6]) == (2, "mess: ")
        assert "Not a directory" in run.stderr
        return
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []
    if program == "run_cifar.sh":
        assert run.stdout.startswith("train:    mess train cifar10 -a mobilenet --name mobilenet\n")
        assert len(run.stdout.splitlines()) == 22
    else:
        assert run.stdout.startswith(f"Usage: {program} ")
