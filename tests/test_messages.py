"""What people are told: of files that are there, of what will be replaced, and of what is done for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mess
from mess.cli import main

NETWORK = ["digits", "-a", "resnet", "--layers", "8", "-b", "128"]


@pytest.fixture
def plain(in_folder: Path) -> Path:
    """A run's folder with an untrained network, and with files of other epochs and schemes."""
    folder = in_folder / "checkpoint" / "resnet" / "digits"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(mess.create_model("resnet", "digits", layers=8).state_dict(), folder / "plain.pth")
    return folder


def test_a_mess_file_that_is_there_is_named_first(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epoch in range(1, 40):
        (plain / f"ckpt_epoch_{epoch}.pth").touch()
        (plain / f"ckpt_epoch_{epoch}_v2.mess").touch()
    (plain / "ckpt_best_v3_d4.mess").touch()
    assert main(["test", *NETWORK, "--ckpt", "ckpt_best_v3.mess"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "There: ckpt_best_v3_d4.mess, ckpt_epoch_39.pth, ckpt_epoch_39_v2.mess, plain.pth" in said


def test_nothing_is_said_to_be_replaced_by_a_run_that_fails(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plain / "ckpt_best.pth").write_bytes(b"x")
    assert main(["train", *NETWORK, "--ckpt", "nothing.pth"]) == 2
    assert main(["train", *NETWORK, "-T", "-v", "v1", "-d", "3", "--ckpt", "ckpt_best.pth"]) == 2
    assert "replaced" not in capsys.readouterr().out
    assert main(["train", *NETWORK, "--epochs", "1"]) == 0
    assert "ckpt_best.pth is of an earlier run and will be replaced" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_plain_checkpoint_is_stored_before_it_is_retrained(
    version: str, plain: Path, few_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-T", "-v", version, "--ckpt", "plain.pth", "--epochs", "1", "-s", "1"]
    assert main(["train", *NETWORK, *flags]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"plain.pth is no .mess file: stored as {version} first, then retrained" in said
    assert mess.inspect(plain / f"ckpt_best_{version}_r1.mess").scheme["rounds"] == 1


@pytest.mark.parametrize("verb", ["compress", "inspect", "decompress"])
def test_a_file_that_is_not_there_is_said_to_be_so(
    verb: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "nothing.mess", *(["-o", "x.pth"] if verb == "decompress" else [])]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "mess: mess" not in said
    assert "No such file" not in said or "expected" not in said
    assert "nothing.mess" in said


def test_the_name_of_the_program_stands_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tset"]) == 2
    assert capsys.readouterr().err.startswith("mess: verb: expected one of ")
