"""What a resume goes on from: -R, and a command that torchrun has started anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mess.cli import main
from mess.devices import Devices
from mess.errors import CheckpointError, OptionError
from mess.models import resolve
from mess.recipes import DataChoice, Job, recipe_to_resume
from mess.recipes.resuming import (
    checkpoint_to_resume,
    input_changes,
    keeping,
    recipe_changes,
    resumed_options,
    saved_recipe,
)
from mess.training import Hooks, Reporter, TrainOptions
from mess.training import checkpoint as files
from test_checkpoint import content

JOB = Job(DataChoice("digits"), resolve("resnet", "digits", layers=8), TrainOptions(epochs=9))


class Elastic(Devices):
    may_restart = True

    def __init__(self, job: str, restarted: bool = False) -> None:
        super().__init__()
        self.job, self.restarted = job, restarted


class Heard(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str, kind: str = "info") -> None:
        self.said.append(text)


def saved(folder: Path, name: str = files.LAST, **more: object) -> Job:
    """Put a checkpoint in a job's folder and return the job."""
    job = replace(JOB, checkpoints=folder)
    files.save(job.folder / name, content(options=TrainOptions(epochs=9).to_dict(), **more))
    return job


def resumed_epoch(job: Job, devices: Devices) -> int | None:
    found = checkpoint_to_resume(job, devices, Reporter())
    return None if found is None else found[1]["epoch"]


def test_a_restart_goes_on_with_this_job_and_no_other(tmp_path: Path) -> None:
    job = saved(tmp_path, epoch=3, job="night-12")
    assert resumed_epoch(job, Devices()) is None  # a run that starts takes no notice of what is there
    assert resumed_epoch(job, Elastic("night-12")) == 3  # another machine was restarted: no count of ours says so
    assert resumed_epoch(job, Elastic("night-13", restarted=True)) is None  # died before its first save
    assert resumed_epoch(job, Elastic("")) is None
    assert resumed_epoch(job, Elastic("", restarted=True)) == 3


def test_a_restart_of_a_resumed_run_takes_the_newest_and_not_what_was_named(tmp_path: Path) -> None:
    job = saved(tmp_path, epoch=3, job="night-12")
    saved(tmp_path, "ckpt_epoch_1.pth", epoch=1)
    job = replace(job, mode="resume", ckpt="ckpt_epoch_1.pth")
    assert resumed_epoch(job, Elastic("night-12")) == 3
    assert resumed_epoch(job, Elastic("night-13")) == 1
    with pytest.raises(CheckpointError, match=r"found none\. There: ckpt_epoch_1\.pth, ckpt_last\.pth"):
        resumed_epoch(replace(job, ckpt="ckpt_epoch_7.pth"), Devices())


def test_a_run_with_all_its_work_done_is_resumed_to_do_nothing_but_never_cut_short(tmp_path: Path) -> None:
    job = replace(saved(tmp_path, epoch=9, job="night-12"), mode="resume")
    checkpoint = files.load(job.folder / files.LAST)
    heard = Heard()
    assert resumed_options(job, checkpoint, heard).epochs == 9
    assert heard.said == ["nothing is left to train: all 9 epochs are done, --epochs 18 would add to them"]
    shorter = replace(job, options=replace(job.options, epochs=8), explicit=frozenset({"epochs"}))
    with pytest.raises(OptionError, match="--epochs: expected at least the 9 that are done, found 8"):
        resumed_options(shorter, checkpoint, Reporter())


def test_the_recipe_is_remembered_and_what_changes_is_told(tmp_path: Path) -> None:
    recipe = {"version": "v3", "bind_size": 2, "mean": (0.1, 0.2, 0.3), "teacher": Path("t.pth")}
    hooks = keeping(recipe, Hooks(extra_state=lambda: {"index": 7}))
    job = saved(tmp_path, epoch=3, extra=hooks.extra_state())
    assert files.load(job.folder / files.LAST)["extra"]["index"] == 7
    kept = recipe_to_resume(None, job.folder)
    assert kept == {"version": "v3", "bind_size": 2, "mean": [0.1, 0.2, 0.3], "teacher": "t.pth"}
    assert recipe_changes(replace(job, recipe={**recipe, "bind_size": 4, "nls": 0.5}), kept) == [
        "--bind-size is now 4 (the checkpoint has 2)",
        "--nls is now 0.5 (the checkpoint was made without it)",
    ]
    assert saved_recipe(None) == saved_recipe({"extra": {}}) == {}


def test_images_that_are_taken_otherwise_than_before_are_told(tmp_path: Path) -> None:
    job = saved(tmp_path)
    job = replace(job, data=replace(job.data, crop=48, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert input_changes(job, {"crop": 32, "mean": [0.5, 0.5, 0.5]}) == [
        "--std is now [0.2, 0.2, 0.2] (the checkpoint was made with the dataset's own)",
        "--crop is now 48 (the checkpoint has 32)",
    ]


SMALL = ("train", "digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "-j", "0", "-s", "1")


@pytest.mark.usefixtures("a_handful_of_digits", "in_folder")
def test_a_resume_says_what_changes_as_people_type_it_and_refuses_another_scheme(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*SMALL, "-N", "-v", "v2", "--epochs", "1"]) == 0
    assert main([*SMALL, "-R", "--epochs", "3", "--warmup", "1", "--sync-bn", "--pl", "--scale-bits", "8"]) == 0
    told = capsys.readouterr().out
    assert "--warmup is now 1.0 (the checkpoint has 0.0)" in told
    assert "--sync-bn is given now (the checkpoint was made without it)" in told
    assert "--pl is given now (the checkpoint was made without it)" in told
    assert "--scale-bits is now 8 (the checkpoint was made without it)" in told
    for flags, said in (
        (["-v", "v3"], "--version: expected v2, as in the run that is resumed, found v3"),
        (["-v", "v4"], "--version: expected v2, as in the run that is resumed, found v4"),
        (["--pointwise", "4"], "--pointwise: expected none, as in the run that is resumed, found 4"),
    ):
        assert main([*SMALL, "-R", "--epochs", "4", *flags]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert main([*SMALL, "-R", "--ckpt", "ckpt_best_v2.mess"]) == 2
    assert "expected a checkpoint of the run to resume, found a .mess file" in capsys.readouterr().err
    assert main([*SMALL, "--layers", "14", "-R"]) == 2
    refused = capsys.readouterr()
    assert "nothing is left to train" not in refused.out
    assert "--resume: expected resnet (layers 14), found resnet (layers 8)" in refused.err
    assert main([*SMALL, "--name", "plain", "--epochs", "1"]) == 0
    assert main([*SMALL, "--name", "plain", "--epochs", "2", "-R", "-N", "-v", "v2"]) == 2
    assert "--new: expected a run with the scheme to resume, found a plain one" in capsys.readouterr().err


@pytest.mark.parametrize("way", [["-v", "v2"], ["-Q", "--qb", "4"]], ids=["v2", "Q"])
@pytest.mark.usefixtures("a_handful_of_digits", "in_folder")
def test_rounds_of_retraining_count_on_from_a_checkpoint(way: list[str]) -> None:
    assert main([*SMALL, "--epochs", "1"]) == 0
    for rounds, ckpt in enumerate(("ckpt_best.pth", "ckpt_last.pth", "ckpt_last.pth"), start=1):
        assert main([*SMALL, "-T", *way, "--epochs", "1", "--ckpt", ckpt]) == 0
        newest = files.load(Path("checkpoint/resnet/digits/ckpt_last.pth"))
        assert saved_recipe(newest)["rounds"] == rounds
    if "v2" in way:
        assert Path("checkpoint/resnet/digits/ckpt_epoch_1_v2_r3.mess").exists()
        assert main([*SMALL, "-T", "-v", "v2a", "--epochs", "1", "--ckpt", "ckpt_last.pth"]) == 0
        assert Path("checkpoint/resnet/digits/ckpt_epoch_1_v2a_r1.mess").exists()  # of another version
