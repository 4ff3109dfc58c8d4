"""The network a run starts from, or goes on with, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mess import codec, models
from mess.errors import CheckpointError, OptionError
from mess.foreign.nested import told_of
from mess.models.described import layout_of
from mess.recipes.job import LAYER_RULES, STORE_FIELDS, DataChoice, Job
from mess.recipes.resuming import (
    ROUNDS,
    input_changes,
    recipe_changes,
    refuse_other_data,
    refuse_others_folder,
    resumed_options,
    saved_recipe,
)
from mess.recipes.sources import data_of, open_network
from mess.storing import Request, identify, to_stored, to_tensors
from mess.storing.sources import is_stored
from mess.storing.stored_options import options_in
from mess.training import Reporter
from mess.training.checkpoint import check_same_network, find, load
from mess.training.options import as_typed

FLAGS = {field: flag for flag, field in STORE_FIELDS.items()} | {"layers": LAYER_RULES}


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
    """Return the job with the options of the checkpoint, or of the file, it goes on from, where none were typed.

    Raises:
        CheckpointError: the folder's run is on other images or of another network, or a file that is not there.
        FormatError: a damaged file.
        OptionError: more epochs are done than are to be.
    """
    if resumed is None:
        refuse_others_folder(job)
        return as_stored(job, reporter)
    refuse_other_data(job, resumed)
    # as `fit` does, after all that comes between; of other classes the names are told when images are opened
    counted = {"num_classes": (resumed.get("architecture") or {}).get("num_classes")}
    check_same_network(resumed, job.architecture.to_dict() | counted, "--resume")
    job = replace(job, options=resumed_options(job, resumed, reporter))
    for change in (*recipe_changes(job, saved_recipe(resumed)), *input_changes(job, resumed)):
        reporter.message(change)
    return job


def as_stored(job: Job, reporter: Reporter) -> Job:
    """Return the job with the options that the file to retrain is stored with, where others were not typed, and say so.

    Without them a file would grow, or keep less, for no reason that its owner has given.
    """
    store = job.scheme.store
    if job.mode != "retrain" or store is None or job.ckpt is None:
        return job
    path = find(job.ckpt, job.folder)
    if not is_stored(path):
        return job
    stored = codec.read_model(path, layout=layout_of)
    if stored.scheme.get("version") != store.version:
        return job  # that it is of another version is told later
    new = {name: value for name, value in options_in(stored).items() if FLAGS[name] not in job.recipe}
    if not new:
        return job
    rules = new.get("layers", {})
    typed = [as_typed(FLAGS[name], value) for name, value in new.items() if name != "layers"]
    reporter.message(f"as {path} is stored: {', '.join([*typed, *(f'--keep {name}' for name in rules)])}")
    recipe = {FLAGS[name]: value for name, value in new.items()}
    if rules:
        recipe[LAYER_RULES] = list(rules.items())
    choice = replace(job.scheme, store=replace(store, **new))
    return replace(job, scheme=choice, recipe={**job.recipe, **recipe})


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
    rounds = (_rounds_of(path, about, job) if folded else _rounds_behind(path, job)) + 1
    if not folded and not job.scheme.rounding_bits:
        reporter.message(f"{path} is no .mess file: stored as {job.scheme.version} first, then retrained")
        if job.scheme.store is not None and job.scheme.rate is None:
            stored = to_stored(identify(model.state_dict(), job.architecture), Request(job.scheme.store))
            model.load_state_dict(to_tensors(stored))
            folded = True
    return Start(model, about, path, rounds=rounds, folded=folded)


def _rounds_behind(path: Path, job: Job) -> int:
    """Return how many rounds of retraining as this one a checkpoint has behind it: none if it is of another program."""
    try:
        recipe = saved_recipe(load(path))
    except CheckpointError:
        return 0
    return int(recipe.get(ROUNDS, 0)) if recipe.get("version") == job.scheme.version else 0


def _rounds_of(path: Path, about: Mapping[str, Any], job: Job) -> int:
    """Return how many rounds of retraining a `.mess` file has behind it.

    Raises:
        OptionError: what is asked for and what the file is do not go together; both are named.
    """
    wanted = job.scheme.version
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
