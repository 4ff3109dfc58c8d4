"""What one run is asked to do: everything the command line or a script decides, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mess.errors import OptionError
from mess.models import Architecture
from mess.names import DATASETS, RATE_WEIGHT
from mess.storing import StoreOptions
from mess.training import TrainOptions

LABELS = "labels"
# flags of a recipe -> fields of `StoreOptions`
STORE_FIELDS = {
    "bind_size": "bind", "qb": "quant_bits", "quant": "quant", "pointwise": "pointwise", "linear": "linear",
    "scale_bits": "scale_bits", "offset_bits": "offset_bits", "rest_bits": "rest_bits",
    "self_contained": "self_contained", "target_size": "target_size", "divergence": "divergence",
    "max_drop": "max_drop",
}  # fmt: skip
LAYER_RULES = "layer_rules"  # of a recipe: pairs of names and rules, which are `StoreOptions.layers`


@dataclass(frozen=True)
class RateChoice:
    """Training through version 4 with a price on bytes.

    Attributes:
        weight: nats of loss that one bit a weight costs: larger makes smaller files.
        teacher: a checkpoint, of any network with as many classes, whose predictions are learned in place of labels, or
            `LABELS`; None: the float network that a run starts from, or labels where it starts from a file.
    """

    weight: float = RATE_WEIGHT
    teacher: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < 100:
            raise OptionError("--rate-weight", "a number above 0", self.weight)


@dataclass(frozen=True)
class SchemeChoice:
    """How the scheme takes part in training; it is applied at every epoch that is saved (`-s`).

    Attributes:
        store: which scheme, and with how many bits its file is written; None trains plainly.
        project: replace the kernels every so often (the specification's way) instead of training through the decoder.
        fixed_index: keep the reference of each unit.
        nuclear, pearson: scales of the two penalties on the reference units; 0 leaves one out.
        rounding_bits: with `-Q` and no version, bits that kernels are rounded to; 0 is off.
        rate: what training through version 4 is told; it has no other options of this kind.
    """

    store: StoreOptions | None = None
    project: bool = False
    fixed_index: bool = False
    nuclear: float = 0.0
    pearson: float = 0.0
    rounding_bits: int = 0
    rate: RateChoice | None = None

    @property
    def version(self) -> str | None:
        """The version of the scheme that is trained with."""
        return self.store.version if self.store is not None else None

    def __post_init__(self) -> None:
        if self.rounding_bits and not 2 <= self.rounding_bits <= 16:
            raise OptionError("--qb", "2…16 bits", self.rounding_bits)
        learned = self.store is not None and self.store.scheme().learned
        if learned != (self.rate is not None):
            raise OptionError(
                "SchemeChoice", "a rate for versions that learn references, and for these alone", self.rate
            )
        others = self.project or self.fixed_index or self.rounding_bits or self.nuclear or self.pearson
        if learned and others:
            found = "--project, --fixed-index, --nl, --pl or -Q"
            raise OptionError(
                f"--version {self.version}", "none of the ways that belong to references of the network", found
            )
        if (self.nuclear or self.pearson) and self.store is None:
            raise OptionError("--nl/--pl", "a version whose references they act on, and -N or -T beside it", "none")
        for flag, value in (("--nls", self.nuclear), ("--pls", self.pearson)):
            if value < 0:
                raise OptionError(flag, "a scale of at least 0", value)


@dataclass(frozen=True)
class DataChoice:
    """Which images, prepared how.

    Attributes:
        name: dataset, or a folder of class folders.
        datapath: where datasets are.
        workers: processes that decode images; sets held in memory need none.
        mean, std: of R, G, B in 0…1, where the network was trained on others than the dataset's own.
        resize, crop: shorter side and side of the centre crop of images in files, in tests, in pixels.
        jitter: share by which colours of training images in folders change by chance.
        classes: of the network that images of own folders are for: its class names in order, or their hash.
    """

    name: str
    datapath: Path = Path("../data")
    workers: int = 8
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: int | None = None
    crop: int | None = None
    jitter: float = 0.0
    classes: Sequence[str] | str | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that were chosen, by name."""
        sizes = {"resize": self.resize, "crop": self.crop}
        return {name: value for name, value in sizes.items() if value is not None}


@dataclass(frozen=True)
class DeviceChoice:
    """Where the run takes place: the CPU, in one or several processes, or GPUs by id."""

    cuda: bool = False
    gpuids: Sequence[int] = (0,)
    processes: int = 1


@dataclass(frozen=True)
class Job:
    """One run of `mess train`.

    Attributes:
        ckpt: a path or a name in the run's folder: what to resume, to retrain, or to start from.
        mode: "train", "resume" or "retrain".
        checkpoints: folder that holds ARCH/DATA/ckpt_….
        key: where in a checkpoint of others the weights are; None: see `mess.foreign.nested`.
        name: of the run's folder, in place of ARCH: two sizes of one family do not share one.
        pretrained: start from public weights.
        recipe: plain flags that say how it is trained and on what images; kept in checkpoints, where a resume that is
            not told them finds them.
        explicit: names of options that the user gave in so many words; on a resume only these overrule the checkpoint.
    """

    data: DataChoice
    architecture: Architecture
    options: TrainOptions
    devices: DeviceChoice = field(default_factory=DeviceChoice)
    scheme: SchemeChoice = field(default_factory=SchemeChoice)
    ckpt: str | None = None
    mode: str = "train"
    checkpoints: Path = Path("checkpoint")
    key: str | None = None
    name: str | None = None
    pretrained: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)
    explicit: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        run_folder(self.checkpoints, self.architecture, self.name)  # refuses a name that would lead elsewhere
        if self.mode == "retrain" and self.ckpt is None:
            raise OptionError("--retrain", "--ckpt with what to retrain", "none")
        if self.pretrained and (self.ckpt is not None or self.mode != "train"):
            raise OptionError("--pretrained", "no other weights to start from", "--ckpt, -R or -T beside it")
        if self.mode == "train" and self.scheme.rate is not None and self.ckpt is None and not self.pretrained:
            raise OptionError(
                f"--new -v {self.scheme.version}",
                "--ckpt with a trained network, whose kernels give the references",
                "none",
            )
        if self.mode == "retrain" and self.scheme.version is None and not self.scheme.rounding_bits:
            raise OptionError("--retrain", "a version (-v) of a .mess file, or -Q with --qb bits", "neither")

    @property
    def folder(self) -> Path:
        """Where this run's checkpoints go."""
        return run_folder(self.checkpoints, self.architecture, self.name)


def run_folder(checkpoints: Path, architecture: Architecture, name: str | None = None) -> Path:
    """Return a run's folder: `checkpoint/ARCH/DATA`, or `checkpoint/NAME/DATA`.

    Raises:
        OptionError: a name that is no name of one folder.
    """
    if name is not None and (name in ("", "..") or Path(name).name != name):
        raise OptionError("--name", "a name of one folder", repr(name))
    return checkpoints / (name or architecture.arch) / data_name(architecture.dataset)


def data_name(dataset: str) -> str:
    """Return what a run's folder is called after: the dataset, or the own folder's name, also where it is typed `.`."""
    return dataset if dataset in DATASETS else Path(dataset).resolve().name or "root"
