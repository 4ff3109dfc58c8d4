"""A file shows how it is stored, and is retrained and stored so again where nothing else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mess
from mess.cli import main
from mess.codec import read_model
from mess.models.described import layout_of
from mess.storing import stored_options


def options_in(path: Path) -> dict[str, Any]:
    return stored_options.options_in(read_model(path, layout=layout_of))


SHOWN = [
    ("v1", {"rest_bits": 16}),
    ("v2", {}),
    ("v2", {"scale_bits": 8, "offset_bits": 6, "rest_bits": 16}),
    ("v2", {"pointwise": 4, "scale_bits": 8}),
    ("v2", {"pointwise": 4, "layers": {"classifier.1.weight": "keep"}}),
    ("v2", {"quant": True, "quant_bits": 5}),
    ("v2q", {"quant_bits": 4}),
    ("v3", {"bind": 4}),
]


@pytest.mark.parametrize(("version", "options"), SHOWN, ids=lambda x: str(x))
def test_a_file_shows_its_options(version: str, options: dict[str, Any], tmp_path: Path) -> None:
    net = mess.create_model("mobilenetv2", dataset="digits", width_mult=0.25)
    if version in ("v3", "v2q") or "quant" in options:
        net = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25)
    mess.compress(net, tmp_path / "net.mess", version, verify=False, **options)
    usual = {"v2q": {"quant_bits": 8}, "v3": {"bind": 2}}.get(version, {})
    assert {**usual, **options_in(tmp_path / "net.mess")} == {**usual, **options}


SMALL = ("digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "--epochs", "1", "-j", "0")


@pytest.mark.usefixtures("a_handful_of_digits")
def test_retraining_keeps_how_a_file_is_stored(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25)
    mess.compress(net, "net.mess", "v3", bind=4, scale_bits=8, offset_bits=8, layers={"linear": "keep"})
    assert main(["train", *SMALL, "-T", "-v", "v3", "--ckpt", "net.mess", "--offset-bits", "6"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "as net.mess is stored: --bind-size 4, --scale-bits 8, --keep linear.weight" in told
    made = Path("checkpoint/resnet/digits/ckpt_best_v3_d4_r1.mess")
    wanted = {"bind": 4, "scale_bits": 8, "offset_bits": 6, "layers": {"linear.weight": "keep"}}
    assert options_in(made) == wanted
    assert main(["train", *SMALL[:-4], "--epochs", "2", "-j", "0", "-R"]) == 0
    assert options_in(Path("checkpoint/resnet/digits/ckpt_epoch_2_v3_d4_r1.mess")) == wanted


@pytest.mark.usefixtures("a_handful_of_digits")
def test_a_switch_is_told_as_it_is_typed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25)
    mess.compress(net, "net.mess", "v2", quant=True, quant_bits=5)
    assert main(["train", *SMALL, "-T", "-v", "v2", "--ckpt", "net.mess"]) == 0
    assert "as net.mess is stored: --qb 5, --quant\n" in capsys.readouterr().out
