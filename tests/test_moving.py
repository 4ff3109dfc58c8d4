"""A run that goes on in another folder, or from an earlier epoch, has its best epoch and its log with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mess.cli import main
from mess.training.checkpoint import BEST, LAST, load, save
from mess.training.log import read_log

NETWORK = ("digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25")
SMALL = ("train", *NETWORK, "-j", "0", "-s", "1", "-b", "16")


@pytest.fixture
def begun(in_folder: Path, a_handful_of_digits: None) -> Path:
    """Return the folder of a run of two epochs, of which the first is said to be one that no other will beat."""
    assert main([*SMALL, "-N", "-v", "v2", "--epochs", "2", "--name", "begun"]) == 0
    folder = in_folder / "checkpoint" / "begun" / "digits"
    first, last = load(folder / "ckpt_epoch_1.pth"), load(folder / LAST)
    for state, names in ((first, ("ckpt_epoch_1.pth", BEST)), (last, ("ckpt_epoch_2.pth", LAST))):
        for name in names:
            save(folder / name, {**state, "best_epoch": 1, "best_top1": 101.0})
    shutil.copy(folder / "ckpt_epoch_1_v2.mess", folder / "ckpt_best_v2.mess")
    return folder


def go_on(name: str, ckpt: Path, *more: str) -> Path:
    assert main([*SMALL, "-R", "--ckpt", str(ckpt), "--name", name, *more]) == 0
    return Path("checkpoint") / name / "digits"


@pytest.mark.parametrize("without", [(), (BEST,)], ids=["", "only the epoch's own"])
def test_the_best_epoch_its_file_and_the_log_come_along(begun: Path, without: tuple[str, ...]) -> None:
    for name in without:
        (begun / name).unlink()
    moved = go_on("moved", begun / LAST, "--epochs", "3")
    assert load(moved / BEST)["epoch"] == load(moved / LAST)["best_epoch"] == 1
    assert (moved / "ckpt_best_v2.mess").read_bytes() == (begun / "ckpt_epoch_1_v2.mess").read_bytes()
    assert [row.epoch for row in read_log(moved / "log.csv")] == [1, 2, 3]
    assert main(["test", *NETWORK, "--name", "moved", "--ckpt", "ckpt_best_v2.mess"]) == 0


def test_a_best_epoch_that_is_nowhere_gives_way_to_the_best_from_here_on(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(begun / LAST, "alone.pth")
    moved = go_on("moved", Path("alone.pth"), "--epochs", "3")
    assert "ckpt_best.pth is not the best epoch so far, 1 with 101.00%" in capsys.readouterr().out
    assert load(moved / BEST)["epoch"] == load(moved / LAST)["best_epoch"] == 3
    assert (moved / "ckpt_best_v2.mess").exists()


def test_a_checkpoint_that_is_the_best_epoch_itself_is_kept_as_that(begun: Path) -> None:
    shutil.copy(begun / "ckpt_epoch_1.pth", "alone.pth")
    moved = go_on("moved", Path("alone.pth"), "--epochs", "2")
    assert load(moved / BEST)["epoch"] == load(moved / LAST)["best_epoch"] == 1
    assert (moved / "ckpt_best_v2.mess").read_bytes() == (begun / "ckpt_epoch_1_v2.mess").read_bytes()


def test_going_back_behind_the_best_epoch_leaves_no_best_of_what_is_no_more(begun: Path) -> None:
    later = {**load(begun / LAST), "best_epoch": 2, "best_top1": 102.0}
    save(begun / BEST, later)
    go_on("begun", begun / "ckpt_epoch_1.pth")
    assert load(begun / BEST)["epoch"] == load(begun / LAST)["best_epoch"] == 1


def test_another_runs_folder_is_not_taken_in_silence(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(begun.parent, begun.parents[1] / "other")
    go_on("other", begun / LAST)
    assert "has another run, which will be replaced" in capsys.readouterr().out
