"""`mess train-all`: every network on every dataset, whatever happens to one of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mess.cli import main
from mess.models import networks
from test_cli import stopped_once_there_is
from test_data import write_cifar

SMALL = ["-a", "shufflenetv2", "--width-mult", "0.5", "-b", "32", "--datapath", "."]


def test_all_networks_are_those_of_the_specification() -> None:
    mobile = ["mobilenet", "mobilenetv2", "shufflenet", "shufflenetv2"]
    resnets = [f"resnet{layers}" for layers in (20, 32, 44, 56, 110)]
    for dataset in ("cifar10", "cifar100"):
        found = {network.slug for network in networks(dataset)}
        assert found == {*mobile, *resnets, "resnext29", "wideresnet28-10"}
    assert {"resnet18", "resnet152", "resnext50", "wideresnet101-2", *mobile} <= {n.slug for n in networks("imagenet")}


def test_a_dry_run_shows_commands_that_work(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-C", "-g", "0", "1", "--epochs", "5", "--lr", "0.05", "-N", "-v", "v3", "-d", "4"]
    assert main(["train-all", "cifar100", "digits", "-a", "resnet", "mobilenet", "--dry-run", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[1] == (
        "train:    mess train cifar100 -a resnet --name resnet20-v3_d4 --layers 20 --cuda --gpuids 0 1 --epochs 5 "
        "--learning-rate 0.05 --version v3 --bind-size 4 --new"
    )
    assert list(in_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--layers", "20"], "--layers: expected a flag of all runs"),
        (["-R"], "--resume: expected a flag of all runs"),
        (["-N"], "expected a version of the scheme"),
        (["cifr10"], "did you mean cifar10?"),
        (["-a", "resnt"], "did you mean resnet?"),
        (["--epoch", "3"], "did you mean --epochs?"),
    ],
)
def test_a_mistake_is_said_once_and_before_anything_starts(
    flags: list[str], said: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-all", *flags]) == 2
    assert said in capsys.readouterr().err
    assert list(in_folder.iterdir()) == []


def test_a_run_that_fails_does_not_stop_the_others_and_what_is_finished_is_skipped(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar(in_folder, "cifar100", python=False)
    command = ["train-all", "cifar10", "cifar100", *SMALL, "--epochs", "1"]
    assert main(command) == 1
    failed, trained, last = capsys.readouterr().out.splitlines()
    assert "cifar10   failed (2): .: expected a folder cifar-10-batches-bin" in failed
    assert "cifar100  best" in trained
    assert last == "1 of 2 runs failed: shufflenetv2-0.5 cifar10"
    run = in_folder / "checkpoint" / "shufflenetv2-0.5" / "cifar100"
    assert {"ckpt_best.pth", "ckpt_last.pth", "log.csv", "train.log"} <= {path.name for path in run.iterdir()}

    shutil.copytree(run, in_folder / "checkpoint" / "shufflenetv2-0.5" / "cifar10", dirs_exist_ok=True)
    assert main([*command, "--dry-run"]) == 0  # another network's checkpoint is not this one's end
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["resume", "finished"]
    assert main([*command, "--pretrained", "--dry-run"]) == 0  # what goes on has weights of its own
    assert ["--pretrained" in line for line in capsys.readouterr().out.splitlines()] == [False, False]
    assert main(["train-all", "cifar100", *SMALL, "--epochs", "1"]) == 0
    skipped, last = capsys.readouterr().out.splitlines()
    assert "cifar100  finished before: best" in skipped
    assert last == "all 1 runs are finished"

    # what is finished is not what is asked for now, and that is said
    otherwise = ["train-all", "cifar100", *SMALL, "--epochs", "1", "--lr", "0.3", "-p", "7", "--mean", "0", "0", "0"]
    assert main([*otherwise, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("other:    mess train cifar100")
    assert main(otherwise) == 1
    told, last = capsys.readouterr().out.splitlines()
    assert "not trained, finished before, and not as asked: --lr is now 0.3 (the checkpoint has 0.1); --mean is" in told
    assert "print-freq" not in told
    assert last == "1 of 1 runs failed: shufflenetv2-0.5 cifar100"


@pytest.mark.slow
def test_a_signal_stops_all_and_the_next_call_goes_on(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar(in_folder, "cifar10", python=False)
    write_cifar(in_folder, "cifar100", python=False)
    command = ["train-all", "cifar10", "cifar100", *SMALL, "--epochs", "500", "-s", "1000"]
    last = in_folder / "checkpoint" / "shufflenetv2-0.5" / "cifar10" / "ckpt_last.pth"
    with stopped_once_there_is(last):
        assert main(command) == 143
    assert "stopped; the same command goes on from here" in capsys.readouterr().out
    assert not (last.parents[1] / "cifar100").exists()
    epochs = torch.load(last, weights_only=True)["epoch"]
    assert main([*command, "--dry-run"]) == 0
    resumed, fresh = capsys.readouterr().out.splitlines()
    assert resumed.startswith("resume: ")
    assert resumed.endswith("-R")
    assert fresh.startswith("train: ")

    assert main(["train-all", "cifar10", *SMALL, "--epochs", str(epochs + 1)]) == 0
    assert f"{epochs + 1} epochs" in capsys.readouterr().out
