"""`mess clean`: only checkpoints of single epochs go, and only where something else stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from mess.cli import main

KEPT = [
    "ckpt_best.pth",
    "ckpt_last.pth",
    "ckpt_last_previous.pth",
    "log.csv",
    "ckpt_epoch_2_v2.mess",
    "ckpt_epoch_x.pth",
]
SPARE = ["ckpt_epoch_2.pth", "ckpt_epoch_10.pth"]


def fill(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"12345")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_epochs_go_and_a_dry_run_says_which(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [Path("checkpoint/resnet/cifar10"), Path("checkpoint/resnet56/digits")]
    for run in runs:
        fill(run, KEPT + SPARE)
    assert main(["clean", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("ckpt_epoch_10.pth  5 B") == 2
    assert "4 checkpoints of epochs, 20 B would be deleted" in said
    assert names(runs[0]) == {*KEPT, *SPARE}

    assert main(["clean", str(runs[0])]) == 0
    assert names(runs[0]) == set(KEPT)
    assert names(runs[1]) == {*KEPT, *SPARE}
    assert main(["clean"]) == 0
    assert names(runs[1]) == set(KEPT)
    assert "2 checkpoints of epochs, 10 B deleted" in capsys.readouterr().out


def test_a_run_that_has_nothing_else_keeps_its_newest(in_folder: Path) -> None:
    run = Path("checkpoint/resnet/cifar10")
    fill(run, SPARE)
    assert main(["clean"]) == 0
    assert names(run) == {"ckpt_epoch_10.pth"}


@pytest.mark.parametrize("folder", ["checkpoint", "nowhere", "photos"])
def test_other_folders_are_refused(folder: str, in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("photos/a/b/c"), SPARE)  # deeper than runs lie
    fill(Path("elsewhere/x"), KEPT + SPARE)
    Path("checkpoint").mkdir()
    Path("checkpoint/link").symlink_to(Path("elsewhere").resolve())
    Path("checkpoint/x").symlink_to(Path("elsewhere/x").resolve())
    assert main(["clean", folder]) == 2
    assert f"{folder}: expected a folder with checkpoints" in capsys.readouterr().err
    assert names(Path("photos/a/b/c")) == set(SPARE)
