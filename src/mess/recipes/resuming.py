"""Going on with a run: from which checkpoint, with which options and which recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mess.devices import Devices
from mess.errors import CheckpointError, OptionError
from mess.image_inputs import FACTS
from mess.names import DATASETS
from mess.recipes.job import Job
from mess.storing.sources import is_stored
from mess.training import Hooks, Reporter, TrainOptions
from mess.training.checkpoint import find, load_newest, open_checkpoint
from mess.training.options import flag_of, told_change

RECIPE = "recipe"  # the entry of a checkpoint's "extra": flags of the recipe, and rounds
ROUNDS = "rounds"
DATA = "data"  # the entry that says where own images were
OF_ONE_RUN = ("version", "bind_size", "pointwise", "linear")  # flags that a resume cannot change
OTHER_RUN = "Another scheme is another run: --ckpt without --resume starts it from these weights"


def checkpoint_to_resume(job: Job, devices: Devices, reporter: Reporter) -> tuple[Path, dict[str, Any]] | None:
    """Return what the run goes on from, and its file, the same in every process; None for a run that starts.

    That is what `-R` means, or, where torchrun has started the command anew, the newest state of this very job.

    Raises:
        CheckpointError: nothing to resume.
    """

    def warn(text: str) -> None:
        reporter.message(text, "warning")

    if devices.may_restart and devices.any(_was_restarted(job, devices)):
        return load_newest(job.folder, warn)
    if job.mode != "resume":
        return None
    return _open(job.ckpt, job.folder, warn)


def _open(ckpt: str | None, folder: Path, warn: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return what `-R --ckpt CKPT` means; a `.mess` file has no state of a run, and is named as what it is."""
    if ckpt is not None and is_stored(path := find(ckpt, folder)):
        hint = "--retrain trains it, or --ckpt without --resume"
        raise CheckpointError(path, "a checkpoint of the run to resume", "a .mess file", hint)
    return open_checkpoint(ckpt, folder, warn)


def _was_restarted(job: Job, devices: Devices) -> bool:
    """Return whether a state of this job is there; a job without a name has only torchrun's count to go by."""
    try:
        newest = load_newest(job.folder, lambda _text: None)[1]
    except CheckpointError:
        return False
    return newest.get("job") == devices.job if devices.job else devices.restarted


def data_path(dataset: str) -> str | None:
    """Return where own images are, for a checkpoint to remember; None of a dataset that has a name."""
    return None if dataset in DATASETS else str(Path(dataset).resolve())


def refuse_other_data(job: Job, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on with, or to write over, a run on other images that has the same folder.

    A folder that is no longer where it was has been moved; images that are others are found by their classes and
    their number.

    Raises:
        CheckpointError: names both.
    """
    if DATA not in checkpoint:  # of an earlier version
        return
    mine, theirs = data_path(job.architecture.dataset), checkpoint[DATA]
    if mine != theirs and (theirs is None or mine is None or Path(theirs).is_dir()):
        shown = [path or f"the dataset {job.folder.name}" for path in (mine, theirs)]
        hint = "--name gives this run a folder of its own"
        raise CheckpointError(job.folder, f"a run on {shown[0]}", f"one on {shown[1]}", hint)


def refuse_others_folder(job: Job) -> None:
    """Refuse to start in a folder that has the state of a run on other images; see `refuse_other_data`."""
    try:
        newest = load_newest(job.folder, lambda _text: None)[1]
    except CheckpointError:  # nothing there that could be lost
        return
    refuse_other_data(job, newest)


def resumed_options(job: Job, checkpoint: Mapping[str, Any], reporter: Reporter) -> TrainOptions:
    """Return the checkpoint's options with those in their place that the user gave in so many words.

    A run with all its epochs done is resumed as well, to do nothing: it may have been ended after its last save, and
    who starts a command again until it succeeds must not get an error for that.

    Raises:
        OptionError: more epochs are done than are to be.
    """
    given = {name: getattr(job.options, name) for name in job.explicit}
    options = TrainOptions.resumed(checkpoint["options"], given)
    done = checkpoint["epoch"]
    if done > options.epochs:
        raise OptionError("--epochs", f"at least the {done} that are done", options.epochs)
    if done == options.epochs:
        reporter.message(f"nothing is left to train: all {done} epochs are done, --epochs {2 * done} would add to them")
    return options


def saved_recipe(checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the flags that say how a checkpoint's network is trained, as far as they were given, and `rounds`."""
    return dict(checkpoint["extra"].get(RECIPE, {})) if checkpoint is not None else {}


def recipe_to_resume(ckpt: str | None, folder: Path) -> dict[str, Any]:
    """Return `saved_recipe` of what `-R --ckpt CKPT` means in a run's folder."""
    return saved_recipe(_open(ckpt, folder, lambda _text: None)[1])


def keeping(recipe: Mapping[str, Any], hooks: Hooks) -> Hooks:
    """Return `hooks` that also keep the recipe in every checkpoint."""
    plain = {name: _plain(value) for name, value in recipe.items()}
    return replace(hooks, extra_state=lambda: {**hooks.extra_state(), RECIPE: plain})


def changes_of(job: Job, checkpoint: Mapping[str, Any]) -> list[str]:
    """Return a line for each flag that was typed and is another than in a checkpoint: of options, recipe and images."""
    saved = checkpoint["options"]
    options = {name: getattr(job.options, name) for name in TrainOptions().to_dict() if name in job.explicit}
    changed = [name for name, value in options.items() if name in saved and saved[name] != value]
    told = [told_change(flag_of(name), options[name], saved[name]) for name in changed]
    return [*told, *recipe_changes(job, saved_recipe(checkpoint)), *input_changes(job, checkpoint)]


def recipe_changes(job: Job, saved: Mapping[str, Any]) -> list[str]:
    """Return a line for every flag of the recipe that is another than was saved."""
    changed = [name for name in job.recipe if is_changed(job, saved, name)]
    return [told_change(flag_of(name), job.recipe[name], saved.get(name)) for name in changed]


def input_changes(job: Job, checkpoint: Mapping[str, Any]) -> list[str]:
    """Return a line for every flag that has images taken otherwise than before."""
    told = []
    for name in FACTS:
        typed = getattr(job.data, name)
        value = list(typed) if isinstance(typed, Sequence) else typed
        if typed is not None and value != checkpoint.get(name):
            before = f"has {checkpoint[name]}" if name in checkpoint else "was made with the dataset's own"
            told.append(f"--{name} is now {value} (the checkpoint {before})")
    return told


def refuse_other_scheme(typed: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse flags of the recipe that make another run: its references and indices do not fit the checkpoint's.

    Raises:
        OptionError: names both.
    """
    if "new" in typed and not saved.keys() & {"new", "retrain"}:
        raise OptionError("--new", "a run with the scheme to resume", "a plain one", OTHER_RUN)
    for name in OF_ONE_RUN:
        if name in typed and typed[name] != saved.get(name):
            expected = f"{saved.get(name, 'none')}, as in the run that is resumed"
            raise OptionError(flag_of(name), expected, typed[name], OTHER_RUN)


def is_changed(job: Job, saved: Mapping[str, Any], flag: str) -> bool:
    """Return whether a flag of the recipe was given and is another than in the checkpoint."""
    return flag in job.recipe and _plain(job.recipe[flag]) != saved.get(flag)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
