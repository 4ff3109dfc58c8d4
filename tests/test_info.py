"""`mess info` says what is true here, also where something is missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mess
from mess.cli import main
from mess.codec.native import reader_name
from mess.data.cifar import LAYOUTS
from mess.fetch.weights import cache_folder
from mess.installation import DATASETS, EXTRAS, version

ROOT = Path(__file__).parents[1]


def test_info_says_what_is_here(in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    (in_folder / "data" / "cifar-100-python").mkdir(parents=True)
    monkeypatch.setenv("MESS_CACHE", "cache")
    assert main(["info", "--datapath", "data", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["mess"]["version"] == mess.__version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["packages"]["numpy"] == np.__version__
    assert found["reader"]["name"] == reader_name()
    assert found["folders"]["data"]["datasets"] == ["cifar100"]
    assert found["folders"]["public weights"] == {"folder": str(cache_folder().absolute()), "there": False}
    assert found["settings"]["MESS_CACHE"] == "cache"
    assert main(["info", "--datapath", "data"]) == 0
    said = capfd.readouterr().out
    assert f"torch {torch.__version__}" in said
    assert "cifar100" in said


def test_what_is_missing_is_said_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("mess.installation.EXTRAS", {"onnx": ("onnx", "no-such-package")})
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["info"]) == 0
    said = capfd.readouterr().out
    assert "onnx: no no-such-package; pip install 'mess-cnn[onnx]'" in said
    assert "torch cannot be imported" in said
    assert version("no-such-package") is None


def test_extras_and_datasets_are_those_there_are() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for extra, packages in EXTRAS.items():
        listed = re.search(rf"^{extra} = \[(.*?)\]", table, re.MULTILINE | re.DOTALL)
        assert listed is not None
        declared = re.findall(r'^\s*"?([\w-]+)[><=]', listed[1].replace('"', "\n"), re.MULTILINE)
        assert {*packages} - {"torchvision"} == {*declared} - {"torch"}
    assert {**{name: (one.binary, one.python) for name, one in LAYOUTS.items()}, "imagenet": ("imagenet",)} == DATASETS
