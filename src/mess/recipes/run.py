"""One run from start to end: open devices and images, find the network, train it, store it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, inference_mode, nn

from mess.class_folders import compact
from mess.data import Batches
from mess.devices import Devices, open_devices
from mess.errors import DataError, OptionError, WeightsError
from mess.foreign.nested import told_of
from mess.models import Architecture
from mess.names import DATASETS
from mess.recipes.hooks import scheme_hooks
from mess.recipes.job import DataChoice, DeviceChoice, Job
from mess.recipes.moving import bring_along
from mess.recipes.resuming import DATA, ROUNDS, checkpoint_to_resume, data_path, keeping
from mess.recipes.sources import Tell, calibration_batches, data_of, log, open_batches, open_images, open_network
from mess.recipes.starting import Start, checked, images_of, start_of
from mess.recipes.teacher import Teacher, rate_start, rate_teacher
from mess.scheme.learned import Learned
from mess.storing import load
from mess.storing.load import read_description
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
    data = replace(data_of(data, about), classes=about.get("classes"))
    with inference_mode():
        scores = model(next(calibration_batches(data, 1, train=False))[0])
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise WeightsError(path, "a network that gives one score a class", "another output")
    count = open_images(data, train=False, tell=lambda _: None).info.num_classes
    if count != scores.shape[1]:
        raise OptionError(data.name, f"the {scores.shape[1]} classes of the network in {path}", f"{count} classes")
    devices = open_devices()
    return devices.launch(_test, data, model, path, 64, devices, reporter)


def _test(
    choice: DataChoice, model: nn.Module, path: Path, batch_size: int, devices: Devices, reporter: Reporter | None
) -> Tested:
    devices.choose_kernels(deterministic=True)
    tell = _teller(reporter, devices)
    batches = open_batches(choice, devices, train=False, batch_size=batch_size, tell=tell)
    return Tested(path, evaluate(model.to(devices.device), batches, devices, reporter=reporter))


def _run(job: Job, devices: Devices, reporter: Reporter) -> RunResult:
    reporter = reporter if devices.is_main else Reporter()
    found = checkpoint_to_resume(job, devices, reporter)
    at, resumed = found if found is not None else (None, None)
    job = checked(job, resumed, reporter)
    devices.choose_kernels(deterministic=job.options.deterministic)
    if job.data.name in DATASETS and Path(job.data.name).is_dir():
        reporter.message(
            f"{job.data.name} is the dataset of that name; the folder here is ./{job.data.name}", "warning"
        )
    start = start_of(job, resumed, reporter)
    choice = images_of(job, start)
    teacher = _teacher(job, start, choice)  # one that cannot be is refused before anything that takes long
    train, test = _splits(choice, job, devices, reporter)
    if start.folded:
        refresh_statistics(start.model.to(devices.device), train, STATISTICS_BATCHES)
    names = [] if choice.name in DATASETS else list(train.dataset.info.class_names)
    if teacher is not None:
        teacher.refuse_other_classes(names)
    facts = _input_facts(choice)
    learned = _learned(job, start, choice, devices, reporter)
    written: list[Path] = []
    hooks = scheme_hooks(
        start.model, job, rounds=start.rounds, input_facts=facts | ({"classes": compact(names)} if names else {}),
        written=written, start=learned, teacher=teacher,
    )  # fmt: skip
    kept = {DATA: data_path(choice.name), **facts, **({"classes": names} if names else {})}
    hooks = replace(keeping({**job.recipe, ROUNDS: start.rounds}, hooks), facts=kept)
    if resumed is None and (job.folder / BEST).exists():  # now that nothing else can be refused
        text = f"{job.folder / BEST} is of an earlier run and will be replaced: --name keeps both"
        reporter.message(text, "warning")
    if at is not None and resumed is not None:
        devices.once(lambda: bring_along(job, at, resumed, start.rounds, reporter))
    result = fit(
        start.model, train, test, job.options, devices,
        hooks=hooks, checkpoint_dir=job.folder, reporter=reporter, resume_from=resumed,
    )  # fmt: skip
    return RunResult(result, tuple(dict.fromkeys(sorted(written, key=lambda p: "best" in p.name))))


def _splits(choice: DataChoice, job: Job, devices: Devices, reporter: Reporter) -> tuple[Batches, Batches]:
    """Open training and test images, as this process's parts of global batches."""
    options = job.options
    train, test = (
        open_batches(
            choice,
            devices,
            train=part,
            batch_size=options.batch_size,
            seed=options.seed,
            sync_bn=options.sync_bn,
            tell=_teller(reporter, devices),
        )
        for part in (True, False)
    )
    if (count := train.dataset.info.num_classes) < 2:  # of which nothing can be learned: every answer is right
        raise DataError(choice.name, "images of at least two classes, a folder each", count)
    return train, test


def _teacher(job: Job, start: Start, choice: DataChoice) -> Teacher | None:
    """Return whose predictions version 4 learns; no other version has one."""
    rate = job.scheme.rate
    return None if rate is None else rate_teacher(start.model, job, rate, choice, start.resumed)


def _learned(job: Job, start: Start, choice: DataChoice, devices: Devices, reporter: Reporter) -> Learned | None:
    """Return the integers that version 4 starts from; no other version has these."""
    rate = job.scheme.rate
    return None if rate is None else rate_start(start, rate, choice, job.options.seed, devices, reporter.stage)


def _teller(reporter: Reporter | None, devices: Devices) -> Tell:
    """Return what tells a warning once, however many processes there are."""
    if not devices.is_main:
        return Reporter().message
    return log.warning if reporter is None else lambda text: reporter.message(text, "warning")


def _input_facts(choice: DataChoice) -> dict[str, Any]:
    """Return what a stored network has to remember of its input: what was said, in place of the dataset's own."""
    colours = {"mean": choice.mean, "std": choice.std}
    return {name: [float(x) for x in value] for name, value in colours.items() if value is not None} | choice.sizes
