"""What people are told: of files that are there, of what will be replaced, and of what is done for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mess
from mess import cli
from mess.cli import main
from mess.errors import OptionError
from mess.recipes import sources
from mess.storing import Request

NETWORK = ["digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "-b", "32"]


@pytest.fixture
def plain(in_folder: Path) -> Path:
    """A run's folder with an untrained network, and with files of other epochs and schemes."""
    folder = in_folder / "checkpoint" / "resnet" / "digits"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(mess.create_model("resnet", "digits", layers=8, width_mult=0.25).state_dict(), folder / "plain.pth")
    return folder


def test_a_mess_file_that_is_there_is_named_first(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for epoch in range(1, 40):
        (plain / f"ckpt_epoch_{epoch}.pth").touch()
        (plain / f"ckpt_epoch_{epoch}_v2.mess").touch()
    (plain / "ckpt_best_v3_d4.mess").touch()
    assert main(["test", *NETWORK, "--ckpt", "ckpt_best_v3.mess"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "There: ckpt_best_v3_d4.mess, ckpt_epoch_39.pth, ckpt_epoch_39_v2.mess, plain.pth" in said


def test_nothing_is_said_to_be_replaced_by_a_run_that_fails(
    plain: Path, a_handful_of_digits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (plain / "ckpt_best.pth").write_bytes(b"x")
    assert main(["train", *NETWORK, "--ckpt", "nothing.pth"]) == 2
    assert main(["train", *NETWORK, "-T", "-v", "v1", "-d", "3", "--ckpt", "ckpt_best.pth"]) == 2
    assert "replaced" not in capsys.readouterr().out
    assert main(["train", *NETWORK, "--epochs", "1"]) == 0
    assert "ckpt_best.pth is of an earlier run and will be replaced" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_plain_checkpoint_is_stored_before_it_is_retrained(
    version: str, plain: Path, a_handful_of_digits: None, capsys: pytest.CaptureFixture[str]
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


def test_old_versions_say_before_and_after_what_is_left_of_a_network(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", str(plain / "plain.pth"), "-v", "v2"]) == 0
    before, *after = capsys.readouterr().out.splitlines()
    assert before.startswith("v2 puts references in the place of kernels: until -T, little is left")
    assert any("little is left of the network" in line and "-T" in line for line in after)
    net = mess.create_model("resnet", "digits", layers=8, width_mult=0.25)
    assert mess.compress(net, plain / "v2.mess", scheme="v2").is_noise
    assert not mess.compress(net, plain / "v4.mess", calibration=torch.rand(8, 3, 32, 32)).is_noise


def test_what_is_lost_is_measured_on_images_that_were_held_out(
    plain: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    open_images = sources.open_images
    monkeypatch.setattr(
        sources, "open_images", lambda *args, train: opened.append(train) or open_images(*args, train=train)
    )
    requests: list[Request] = []

    def stop(_weights: object, output: Path, request: Request) -> None:
        requests.append(request)
        raise OptionError("test", "the request alone", output)

    monkeypatch.setattr("mess.storing.store", stop)
    flags = ["compress", str(plain / "plain.pth"), "--calibration", "digits"]
    for split, train in (("digits", False), ("digits:val", False), ("digits:train", True)):
        assert main([*flags, "--validation", split]) == 2
        assert opened[-2:] == [True, train]
        assert requests[-1].validation is not None
    assert main(flags) == 2
    assert requests[-1].validation is None
    assert main(["compress", str(plain / "plain.pth"), "--validation", "digits"]) == 2
    assert "--validation: expected --calibration beside it" in " ".join(capsys.readouterr().err.split())


def _full(_: list[str]) -> int:
    raise MemoryError


def _broken(_: list[str]) -> int:
    raise RuntimeError("something else")


@pytest.mark.parametrize("takes", [lambda _: torch.empty(1 << 50).numel(), lambda _: np.empty(1 << 50).size, _full])
def test_too_little_memory_is_one_line(takes: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._guarded(takes, []) == 2
    assert capsys.readouterr().err.startswith("mess: not enough memory: ")
    with pytest.raises(RuntimeError, match="something else"):
        cli._guarded(_broken, [])
