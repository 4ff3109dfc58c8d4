"""One run from start to end: open devices and images, find the network, train it, store it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, inference_mode, nn

from mess.class_folders import compact
from mess.devices import Devices, open_devices
from mess.errors import OptionError, WeightsError
from mess.foreign.nested import told_of
from mess.models import Architecture
from mess.names import DATASETS
from mess.recipes.hooks import scheme_hooks, store_first
from mess.recipes.job import DataChoice, DeviceChoice, Job
from mess.recipes.resuming import (
    DATA,
    ROUNDS,
    checkpoint_to_resume,
    data_path,
    keeping,
    refuse_other_data,
    refuse_others_folder,
    report_changes,
    resumed_options,
    saved_recipe,
)
from mess.recipes.sources import (
    Tell,
    calibration_batches,
    check_version,
    log,
    open_batches,
    open_images,
    open_network,
    start_network,
)
from mess.recipes.teacher import rate_start, rate_teacher
from mess.storing import load
from mess.storing.load import read_description
from mess.storing.sources import is_stored
from mess.training import FitResult, Reporter, Scores, evaluate, fit, refresh_statistics
from mess.training.checkpoint import BEST, find

STATISTICS_BATCHES = 20  # training batches that BatchNorm is measured on before a stored network is retrained


@dataclass(frozen=True)
class RunResult:
    """What a run came to, and the `.mess` files it wrote, the best one last."""

    fit: FitResult
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Tested:
    """Scores of a network, and the file it came from."""

    path: Path
    scores: Scores


def run_job(job: Job, reporter: Reporter) -> RunResult:
    """Train, resume or retrain as `job` says, on the devices it names.

    Raises:
        MessError: its children say what of the job, the data, the devices or a file cannot work.
    """
    choice = job.devices
    devices = open_devices(choice.cuda, choice.gpuids, processes=choice.processes, precision=job.options.precision)
    return devices.launch(_run, job, devices, reporter)


def score_network(
    data: DataChoice,
    architecture: Architecture,
    ckpt: str,
    *,
    batch_size: int = 128,
    precision: str = "32",
    devices: DeviceChoice | None = None,
    folder: Path = Path(),
    reporter: Reporter | None = None,
    key: str | None = None,
) -> Tested:
    """Test the network of a checkpoint, a weights file or a `.mess` file, every test image once.

    Args:
        ckpt: a path, or a name in `folder`.
        key: where in it the weights are, if it has several; see `mess.foreign.nested`.
    """
    choice = devices or DeviceChoice()
    path = find(ckpt, folder)
    model, about = open_network(path, architecture, key, classes_from_file=data.name not in DATASETS)
    if reporter is not None and (told := told_of(about)) is not None:
        reporter.message(told)
    opened = open_devices(choice.cuda, choice.gpuids, processes=choice.processes, precision=precision)
    data = replace(data_of(data, about), classes=about.get("classes"))
    return opened.launch(_test, data, model, path, batch_size, opened, reporter)


def score_stored(data: DataChoice, path: Path, *, reporter: Reporter | None = None) -> Tested:
    """Test the network of a `.mess` file on the CPU, of the zoo or of a catalogue, every test image once.

    Raises:
        WeightsError: a network that cannot be built here, or that says other than one score a class.
        OptionError: as many classes as the data does not have.
    """
    about = read_description(path)
    if (described := about.get("architecture")) is not None:
        return score_network(data, Architecture.from_dict(described), str(path), reporter=reporter)
    model = load(path)
    data = replace(data_of(data, about["scheme"]), classes=about["scheme"].get("classes"))
    with inference_mode():
        scores = model(next(calibration_batches(data, 1, train=False))[0])
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise WeightsError(path, "a network that gives one score a class", "another output")
    count = open_images(data, train=False, tell=lambda _: None).info.num_classes
    if count != scores.shape[1]:
        raise OptionError(data.name, f"the {scores.shape[1]} classes of the network in {path}", f"{count} classes")
    devices = open_devices()
    return devices.launch(_test, data, model, path, 64, devices, reporter)


def data_of(choice: DataChoice, about: dict) -> DataChoice:
    """Return the choice with the mean, std and sizes a file was made for, where the user has not said others."""
    return replace(
        choice,
        mean=choice.mean or about.get("mean"),
        std=choice.std or about.get("std"),
        resize=choice.resize if choice.resize is not None else about.get("resize"),
        crop=choice.crop if choice.crop is not None else about.get("crop"),
    )


def _test(
    choice: DataChoice, model: nn.Module, path: Path, batch_size: int, devices: Devices, reporter: Reporter | None
) -> Tested:
    devices.choose_kernels(deterministic=True)
    tell = _teller(reporter, devices)
    batches = open_batches(choice, devices, train=False, batch_size=batch_size, tell=tell)
    return Tested(path, evaluate(model.to(devices.device), batches, devices, reporter=reporter))


def _run(job: Job, devices: Devices, reporter: Reporter) -> RunResult:
    reporter = reporter if devices.is_main else Reporter()
    resumed = checkpoint_to_resume(job, devices, reporter)
    if resumed is not None:
        refuse_other_data(job, resumed)
        job = replace(job, options=resumed_options(job, resumed, reporter))
        report_changes(job, saved_recipe(resumed), reporter)
    else:
        refuse_others_folder(job)
    devices.choose_kernels(deterministic=job.options.deterministic)
    if job.data.name in DATASETS and Path(job.data.name).is_dir():
        reporter.message(
            f"{job.data.name} is the dataset of that name; the folder here is ./{job.data.name}", "warning"
        )
    model, about, path = start_network(job, reporter)
    rounds = saved_recipe(resumed).get(ROUNDS, 0)
    if job.mode == "retrain" and path is not None:
        rounds = check_version(path, about, job) + 1
        if not is_stored(path) and not job.scheme.rounding_bits:
            reporter.message(f"{path} is no .mess file: stored as {job.scheme.version} first, then retrained")
            if job.scheme.rate is None:
                store_first(model, job)
    choice = data_of(job.data, about if resumed is None else resumed)
    if resumed is not None or job.mode == "retrain":  # else the labels of the new images are what is learned
        choice = replace(choice, classes=(about if resumed is None else resumed).get("classes"))
    train, test = (
        open_batches(
            choice,
            devices,
            train=part,
            batch_size=job.options.batch_size,
            seed=job.options.seed,
            sync_bn=job.options.sync_bn,
            tell=_teller(reporter, devices),
        )
        for part in (True, False)
    )
    stored_first = job.mode == "retrain" and not job.scheme.rounding_bits and job.scheme.rate is None
    if path is not None and (stored_first or is_stored(path)):
        refresh_statistics(model.to(devices.device), train, STATISTICS_BATCHES)
    written: list[Path] = []
    names = [] if choice.name in DATASETS else list(train.dataset.info.class_names)
    facts: dict[str, Any] = {**_input_facts(choice), **({"classes": compact(names)} if names else {})}
    settings: dict[str, Any] = {"rounds": rounds, "input_facts": facts, "written": written}
    if job.scheme.rate is not None:
        progress, seed = reporter.stage, job.options.seed
        settings["start"] = rate_start(model, path, job.scheme.rate, choice, seed, resumed, devices, progress)
        settings["teacher"] = rate_teacher(model, job, job.scheme.rate, choice, resumed)
    hooks = scheme_hooks(model, job, **settings)
    kept = {DATA: data_path(choice.name), **facts, **choice.sizes, **({"classes": names} if names else {})}
    hooks = replace(keeping({**job.recipe, ROUNDS: rounds}, hooks), facts=kept)
    if resumed is None and (job.folder / BEST).exists():  # now that nothing else can be refused
        text = f"{job.folder / BEST} is of an earlier run and will be replaced: --name keeps both"
        reporter.message(text, "warning")
    result = fit(
        model, train, test, job.options, devices,
        hooks=hooks, checkpoint_dir=job.folder, reporter=reporter, resume_from=resumed,
    )  # fmt: skip
    return RunResult(result, tuple(dict.fromkeys(sorted(written, key=lambda p: "best" in p.name))))


def _teller(reporter: Reporter | None, devices: Devices) -> Tell:
    """Return what tells a warning once, however many processes there are."""
    if not devices.is_main:
        return Reporter().message
    return log.warning if reporter is None else lambda text: reporter.message(text, "warning")


def _input_facts(choice: DataChoice) -> dict[str, list[float]]:
    """Return what a stored network has to remember of its input: only what differs from the dataset's own."""
    facts = {"mean": choice.mean, "std": choice.std}
    return {name: [float(x) for x in value] for name, value in facts.items() if value is not None}
