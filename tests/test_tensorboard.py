"""Curves for TensorBoard: what its own reader finds in a run's folder, after stops, restarts and several processes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mess.cli import main
from mess.devices import Devices
from mess.errors import OptionError
from mess.training import EpochReport, StepReport, TrainOptions
from mess.training import tensorboard as board
from mess.training.checkpoint import LAST
from test_devices import FAKES, run
from training_fakes import parsed
from training_fakes import run as run_here

SAMPLES = 40  # an epoch
BATCH = 8


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("tensorboard")


def train(folder: Path, *options: object) -> int:
    """Run the tiny training in this process."""
    return run_here(Devices(), parsed([str(folder), "--log", "tensorboard", *map(str, options)]))


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (images seen, value) of each curve, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def check_whole(folder: Path, epochs: int) -> None:
    """Each epoch once, with the figures of the CSV file; within epochs every place once and in order."""
    found = curves(folder)
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [step for step, _ in found["epoch"]] == [SAMPLES * (n + 1) for n in range(epochs)]
    for tag, column in (("loss/test", "test_loss"), ("top1/train", "train_top1"), ("top5/test", "test_top5")):
        assert [value for _, value in found[tag]] == pytest.approx([float(row[column]) for row in rows], rel=1e-5)
    places = [e * SAMPLES + b for e in range(epochs) for b in (2 * BATCH, 4 * BATCH, SAMPLES)]  # two steps, and the end
    assert [step for step, _ in found["steps/loss"]] == places
    assert [step for step, _ in found["lr"]] == places


def test_an_uninterrupted_run(tmp_path: Path) -> None:
    assert train(tmp_path) == 0
    check_whole(tmp_path, 3)


@pytest.mark.parametrize("step", [5, 7, 8])  # at the end of an epoch, between and just after noted steps
def test_a_stopped_run_goes_on_in_the_same_curves(tmp_path: Path, step: int) -> None:
    assert train(tmp_path, "--signal-at", step) == 143
    assert train(tmp_path, "--resume") == 0
    check_whole(tmp_path, 3)


def test_what_was_noted_after_the_checkpoint_is_dropped_and_comes_once(tmp_path: Path) -> None:
    assert train(tmp_path, "--epochs", 1) == 0
    earlier = (tmp_path / LAST).read_bytes()
    assert train(tmp_path, "--resume", "--epochs", 2) == 0
    (tmp_path / LAST).write_bytes(earlier)  # as if all that came after had been killed before it was saved
    assert len(curves(tmp_path)["epoch"]) == 2
    assert train(tmp_path, "--resume") == 0
    check_whole(tmp_path, 3)


def test_a_run_that_starts_anew_begins_new_curves(tmp_path: Path) -> None:
    assert train(tmp_path, "--epochs", 3) == 0
    assert train(tmp_path, "--epochs", 2) == 0
    check_whole(tmp_path, 2)


def test_files_of_one_second_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer import event_file_writer as writer

    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(9))  # names that end with 9, then with 10
    for epoch in (1, 2):
        log = board.TensorBoardLog(tmp_path, SAMPLES * (epoch - 1) + epoch - 1, pytest.fail)
        log.epoch(EpochReport(epoch, 2, 0.1, 0.5, 50.0, 0.5, 50.0, 90.0, 50.0, 1.0, 2.0), SAMPLES * epoch)
        log.close()
    assert curves(tmp_path)["epoch"] == [(SAMPLES, 1), (2 * SAMPLES, 2)]


def test_only_the_first_of_several_processes_writes(tmp_path: Path) -> None:
    result = run(FAKES, tmp_path, "--log", "tensorboard", "--processes", 2, "--epochs", 2)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    check_whole(tmp_path, 2)


def test_the_flag_travels_with_the_checkpoint(in_folder: Path) -> None:
    network = ["train", "digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "-b", "512"]
    assert main([*network, "--epochs", "1", "--log", "tensorboard"]) == 0
    assert main([*network, "--epochs", "2", "-R"]) == 0
    folder = in_folder / "checkpoint" / "resnet" / "digits"
    assert [value for _, value in curves(folder)["epoch"]] == [1, 2]


def test_without_tensorboard_the_error_says_what_to_install(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(board, "find_spec", lambda _name: None)
    assert main(["train", "digits", "-a", "resnet", "--log", "tensorboard"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mess: --log tensorboard: expected the package tensorboard, found none")
    assert "pip install 'mess-cnn[tensorboard]'" in error
    assert list(in_folder.iterdir()) == []


def test_another_log_is_refused() -> None:
    with pytest.raises(OptionError, match="csv, tensorboard"):
        TrainOptions(log="tensorbord")


def test_a_folder_that_cannot_be_written_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    log = board.TensorBoardLog(tmp_path / "file", 0, said.append)
    for epoch in (1, 2):
        log.step(StepReport(epoch, 1, 2, 0.5, 50.0, 90.0, 100.0, 0.1, 9.0), 8 * epoch)
        log.epoch(EpochReport(epoch, 2, 0.1, 0.5, 50.0, 0.5, 50.0, 90.0, 50.0, 1.0, 2.0), 16 * epoch)
    log.close()
    assert len(said) == 1
    assert "training goes on" in said[0]
