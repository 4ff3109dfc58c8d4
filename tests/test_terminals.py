"""What is printed reaches every terminal: few characters, few columns, and names that look like markup."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from format_helpers import FEW_BITS_TYPED
from mess.cli import VERBS, main
from mess.cli.plain import plain
from test_help import on_a_terminal


def said(encoding: str, *words: str, code: int = 0) -> str:
    """Run `mess` in a process of its own, whose output has few characters, and return that output."""
    env = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    run = subprocess.run([sys.executable, "-m", "mess", *words], capture_output=True, env=env, check=False)
    text = (run.stdout + run.stderr).decode(encoding)
    assert run.returncode == code, text
    assert "Traceback" not in text
    return text


@pytest.fixture
def weights(in_folder: Path) -> Path:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 8, 3))
    torch.save({f"[/b] {name}": tensor for name, tensor in model.state_dict().items()}, "n.pth")
    return Path("n.pth")


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_readable_in_ascii(verb: str) -> None:
    assert "--help" in said("ascii", verb, "--help")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_files_are_stored_and_inspected_on_old_terminals(encoding: str, weights: Path) -> None:
    stored = said(encoding, "compress", "n.pth", "-v", "v2", "--scale-bits", "8", "-o", "n.mess", "--no-verify")
    assert ("×" if encoding == "cp1252" else "x") + " smaller" in stored
    shown = said(encoding, "inspect", "n.mess")
    assert "scales alpha" in shown
    assert "scales alpha rounded to 8 bits" in shown
    assert "?" not in shown
    assert "unknown [/] ???" in said(encoding, "inspect", "unknown [/] 語語語", code=2)


def test_a_run_is_told_on_old_terminals(in_folder: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (Path("p [red]") / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(f"p [red]/{split}/{name}/{i}.png")
    small = "-a mobilenet --width-mult 0.25 -j 0 --crop 32 --lr 0.001 -b 4 --epochs 1".split()  # noqa: SIM905
    told = said(
        "ascii", "train", "p [red]", *small, "-N", "-v", "v2", *FEW_BITS_TYPED, "-s", "1", "--name", "run [red]"
    )
    assert "checkpoint/run [red]/p [red]/ckpt_best_v2.mess" in told
    tested = said("ascii", "test", "p [red]", *small, "--name", "run [red]", "--ckpt", "ckpt_best.pth")
    assert "checkpoint/run [red]/p [red]/ckpt_best.pth" in tested


def test_every_character_has_a_plain_form() -> None:
    assert [plain(c) for c in "α×…█━│⠋語\udcff"] == ["alpha", "x", "...", "#", "-", "|", "*", "?", "?"]


@pytest.mark.parametrize("name", ["odd [b]name α", "[link=x]y", "a[red]", "a[/b]", "[/]"])
def test_names_that_look_like_markup_are_printed_as_they_are(
    name: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    for command, output in (
        (["compress", "n.pth", "-v", "v2", "--no-verify"], f"{name}.mess"),
        (["decompress", f"{name}.mess"], f"{name}.pth"),
        (["report", f"{name}.mess"], f"{name}.html"),
    ):
        assert main([*command, "-o", output]) == 0
        assert output in capsys.readouterr().out.replace("\n", "")
    assert main(["inspect", f"{name}.mess"]) == 0
    assert f"{name}.mess" in capsys.readouterr().out


def test_names_of_layers_that_look_like_markup_are_printed_as_they_are(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "n.pth", "-v", "v2", "-o", "n.mess", "--no-verify", "--keep", "*2.weight"]) == 0
    assert "[/b] 2.weight" in capsys.readouterr().out
    assert main(["inspect", "n.mess", "--all"]) == 0
    assert "[/b] 1.weight" in capsys.readouterr().out
    torch.save({"[red]x": torch.zeros(3, 3), "[/]y.weight": torch.full((2,), torch.nan)}, "bad.pth")
    assert main(["compress", "bad.pth", "-v", "v2", "-o", "bad.mess"]) == 2
    assert "[/]y" in capsys.readouterr().err


def test_the_title_breaks_between_words_on_80_columns(weights: Path) -> None:
    assert main(["compress", "n.pth", "-v", "v2", "--scale-bits", "6", "-o", "n.mess", "--no-verify"]) == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal([sys.executable, "-m", "mess", "inspect", "n.mess"]))
    lines = [line.rstrip() for line in shown.replace("\r", "").splitlines()]
    assert max(map(len, lines)) <= 80
    words = set(" ".join(lines[:6]).split())
    assert {"references", "smaller", "weights,", "float32;", "scales"} <= words
    assert "rounded to 6 bits" in " ".join(lines[:6])


@pytest.mark.parametrize("closed", ["1", "2"])
def test_streams_may_be_closed(closed: str, weights: Path) -> None:
    run = subprocess.run(["sh", "-c", f'"{sys.executable}" -m mess inspect none.mess {closed}>&-'], check=False)
    assert run.returncode == 2
