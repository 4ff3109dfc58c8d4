"""The network a run starts from, or goes on with, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mess import models
from mess.errors import OptionError
from mess.foreign.nested import told_of
from mess.recipes.job import DataChoice, Job
from mess.recipes.resuming import (
    ROUNDS,
    refuse_other_data,
    refuse_others_folder,
    report_changes,
    resumed_options,
    saved_recipe,
)
from mess.recipes.sources import data_of, open_network
from mess.storing import Request, identify, to_stored, to_tensors
from mess.storing.sources import is_stored
from mess.training import Reporter
from mess.training.checkpoint import find


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        model: of a resumed run without its weights, which `fit` takes from the checkpoint.
        about: what the file it comes from, or the checkpoint, says beside the weights.
        path: the file, where there is one.
        resumed: the checkpoint that is gone on from.
        rounds: of retraining, this one included.
        folded: its BatchNorm layers are what a `.mess` file keeps of them, and have no statistics.
    """

    model: nn.Module
    about: Mapping[str, Any]
    path: Path | None = None
    resumed: Mapping[str, Any] | None = None
    rounds: int = 0
    folded: bool = False


def checked(job: Job, resumed: Mapping[str, Any] | None, reporter: Reporter) -> Job:
    """Return the job with the options of the checkpoint it goes on from, where none were typed.

    Raises:
        CheckpointError: the folder's run is on other images.
        OptionError: more epochs are done than are to be.
    """
    if resumed is None:
        refuse_others_folder(job)
        return job
    refuse_other_data(job, resumed)
    job = replace(job, options=resumed_options(job, resumed, reporter))
    report_changes(job, saved_recipe(resumed), reporter)
    return job


def start_of(job: Job, resumed: Mapping[str, Any] | None, reporter: Reporter) -> Start:
    """Return where a run starts: a checkpoint, else the file that `job` names, else public or new weights.

    Raises:
        CheckpointError: a file of another network.
        OptionError: what is asked for and what the file is do not go together.
        DownloadError: no public weights.
    """
    if resumed is not None:
        return Start(_new_network(job), resumed, resumed=resumed, rounds=saved_recipe(resumed).get(ROUNDS, 0))
    if job.ckpt is not None:
        return _from_file(job, find(job.ckpt, job.folder), reporter)
    model = _new_network(job)
    return Start(model, _with_public_weights(model, job, reporter) if job.pretrained else {})


def images_of(job: Job, start: Start) -> DataChoice:
    """Return which images a run is on, prepared as what it starts from was made for."""
    choice = data_of(job.data, start.about)
    if start.resumed is None and job.mode != "retrain":
        return choice  # the labels of the new images are what is learned
    return replace(choice, classes=start.about.get("classes"))


def _from_file(job: Job, path: Path, reporter: Reporter) -> Start:
    model, about = open_network(path, job.architecture, job.key)
    if (told := told_of(about)) is not None:
        reporter.message(told)
    folded = is_stored(path)
    if job.mode != "retrain":
        return Start(model, about, path, folded=folded)
    rounds = _rounds_of(path, about, job) + 1
    if not folded and not job.scheme.rounding_bits:
        reporter.message(f"{path} is no .mess file: stored as {job.scheme.version} first, then retrained")
        if job.scheme.store is not None and job.scheme.rate is None:
            stored = to_stored(identify(model.state_dict(), job.architecture), Request(job.scheme.store))
            model.load_state_dict(to_tensors(stored))
            folded = True
    return Start(model, about, path, rounds=rounds, folded=folded)


def _rounds_of(path: Path, about: Mapping[str, Any], job: Job) -> int:
    """Return how many rounds of retraining a file has behind it; a plain checkpoint has none.

    Raises:
        OptionError: what is asked for and what the file is do not go together; both are named.
    """
    wanted = job.scheme.version
    if not is_stored(path):
        return int(about.get("rounds", 0))
    if job.scheme.rounding_bits and wanted is None:
        raise OptionError("--quant", "a plain checkpoint, whose kernels are then rounded", path)
    found = about.get("scheme", {}).get("version")
    if wanted is not None and found != wanted:
        raise OptionError("--version", f"{found}, the version of {path}", wanted)
    return int(about.get("scheme", {}).get("rounds", 0))


def _new_network(job: Job) -> nn.Module:
    torch.manual_seed(job.options.seed)  # the first weights are a draw like any other
    return models.build(job.architecture)


def _with_public_weights(model: nn.Module, job: Job, reporter: Reporter) -> dict[str, Any]:
    """Load public weights, and return what they say of their input."""
    from mess.fetch import find_weights, input_facts, load_pretrained  # brings what speaks to servers

    weights = find_weights(job.architecture)
    reporter.message(f"public weights of {weights.source}: {weights.url} ({weights.licence})")

    def tell(name: str, done: int, total: int | None) -> None:
        reporter.stage(f"fetching (MB) {name}", done // 10**6, (total or 0) // 10**6)

    if load_pretrained(model, weights, progress=tell):
        reporter.message(f"a new last layer, for {job.architecture.num_classes} classes")
    return input_facts(weights)
