"""The flags of `mess train`, `mess test` and `main.py` as tables: the specification's, word for word, then ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mess.errors import OptionError, one_of
from mess.names import (
    DATASETS,
    FAMILIES,
    LOGS,
    PRECISIONS,
    RATE_WEIGHT,
    REST_BITS,
    SCHEDULES,
    TRAINED_REST_BITS,
    VERSIONS,
)

SPECIFIED_DATASETS = ("cifar10", "cifar100", "imagenet")


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        names: short and long ones, with spaces between.
        help: what it does, in a line.
        metavar: what stands for its value; None: it is a switch.
        kind: of the value.
        default: shown by the help as it says itself; a flag whose help says another one is None until it is resolved.
        nargs: how many values.
        choices: the values there are.
        dest: name of the attribute, where the long name is not it.
        action: what is done with the value, where it is not kept as it is.
    """

    names: str
    help: str
    metavar: str | None = None
    kind: Any = str
    default: Any = None
    nargs: int | str | None = None
    choices: Sequence[str] | None = None
    dest: str | None = None
    action: type[argparse.Action] | None = None

    def add_to(self, group: argparse._ActionsContainer) -> None:
        """Add it to a parser's group."""
        named: dict[str, Any] = {} if self.dest is None else {"dest": self.dest}
        if self.metavar is None and self.choices is None:
            group.add_argument(*self.names.split(), action="store_true", help=self.help, **named)
            return
        given = {"metavar": self.metavar, "nargs": self.nargs, "choices": self.choices, "action": self.action}
        named |= {name: value for name, value in given.items() if value is not None}
        group.add_argument(*self.names.split(), type=self.kind, default=self.default, help=self.help, **named)


KEY = Flag("--key", "where the weights are in a checkpoint that has several: state_dict, model.ema (default: averaged "
           "ones, where there are some)", "NAME")  # fmt: skip
FORCE = Flag("--force", "overwrite an existing file")
MAX_BYTES = Flag(
    "--max-bytes", "refuse a file whose tensors take more memory than that: 500MB, 8GB (default: 2GiB)", "SIZE"
)
DATAPATH = Flag("--datapath", "where the datasets are (default: ../data)", "PATH", Path, Path("../data"))
CUDA = Flag("-C --cuda", "use CUDA")
GPU = Flag("-g --gpuid", "GPU id (default: 0)", "ID", int, dest="gpuid")
NETWORK = (
    Flag("--layers", "number of layers in ResNet/ResNeXt/WideResNet (default: 16, or where a family has no 16: ResNet "
         "20 and ResNeXt 29, on ImageNet 18 and 50; WideResNet 50 on ImageNet)", "N", int),
    Flag("--width-mult", "width multiplier to thin a network uniformly at each layer; the widening factor of "
         "WideResNet (default: 1.0)", "WM", float, 1.0),
    Flag("--groups", "number of groups for ShuffleNet (default: 2), cardinality of ResNeXt (default: 32)", "N", int),
)  # fmt: skip
RUN = (
    Flag("-j --workers", "number of data loading workers (default: 8); sets held in memory need none", "N", int, 8),
    Flag("-b --batch-size", "mini-batch size (default: 128), the total of all devices", "N", int, 128),
    Flag("-p --print-freq", "print frequency (default: 100)", "N", int, 100),
    Flag("--ckpt", "checkpoint or .mess file for resuming, testing or retraining: a path, or a name in "
         "checkpoint/ARCH/DATA (default: none)", "PATH"),
    Flag("-R --resume", "resume the run of --ckpt, or the newest"),
    Flag("-E --evaluate", "test the network of --ckpt"),
    CUDA,
    Flag("-T --retrain", "retrain: with -v a .mess file (a plain checkpoint is stored first), with -Q a plain "
         "checkpoint whose kernels are rounded"),
    Flag("-g --gpuids", "GPU ids, one process each (default: 0)", "GPUIDS", int, [0], nargs="+"),
    DATAPATH,
)  # fmt: skip
TRAINING = (
    Flag("--epochs", "number of total epochs to run (default: 200)", "N", int, 200),
    Flag("--lr --learning-rate", "initial learning rate (default: 0.1, with -T 0.01, through v4 0.005)", "LR", float),
    Flag("--momentum", "momentum (default: 0.9)", "M", float, 0.9),
    Flag("--wd --weight-decay", "weight decay, not on BatchNorm or biases (default: 5e-4)", "W", float, 5e-4),
)
SCHEME = (
    Flag("-v --version", f"version of the scheme: {' | '.join(VERSIONS)} (default: none)", "VER"),
    Flag("-d --bind-size", "kernels bound to one unit in v3 and v3a (default: 2)", "N", int, 2),
    Flag("-N --new", "train with the scheme of -v"),
    Flag("-s --save-epoch", "epochs between checkpoints, and between applications of the scheme (default: 10)",
         "N", int, 10),
    Flag("--nl --nuc-loss", "add the nuclear norm term: references that span more", dest="nl"),
    Flag("--nls --nl-scale", "scale of the nuclear norm term (default: 1.0)", "NLS", float, 1.0, dest="nls"),
    Flag("--pl --pcc-loss", "add the Pearson correlation term: references that resemble each other less", dest="pl"),
    Flag("--pls --pl-scale", "scale of the Pearson correlation term (default: 1.0)", "PLS", float, 1.0, dest="pls"),
    Flag("-Q --quant", "round kernels to --qb bits: with -v before they are matched, with -T alone while training"),
    Flag("--qb --quant-bit", "bits of the rounded kernels, for -Q and v2q (default: 8)", "N", int, 8, dest="qb"),
)  # fmt: skip
MORE = (
    Flag("--schedule", "learning rate over the run (default: cosine)", default="cosine",
         choices=SCHEDULES),
    Flag("--warmup", "epochs of linear warm-up (default: 0)", "N", float, 0.0),
    Flag("--label-smoothing", "label smoothing (default: 0)", "E", float, 0.0),
    Flag("--ema", "decay of an average of the weights, which is then what is tested and kept (default: 0, off)",
         "D", float, 0.0),
    Flag("--precision", "arithmetic of the forward and backward pass; epochs are tested in float32 (default: 32)",
         default="32", choices=PRECISIONS),
    Flag("--save-every", "also save ckpt_last.pth within an epoch: every 500 steps, or every 10m minutes "
         "(default: never)", "N"),
    Flag("--log", "tensorboard: also write curves for TensorBoard beside log.csv (default: csv)", default="csv",
         choices=LOGS),
    Flag("--seed", "seed of every random draw (default: 0)", "N", int, 0),
    Flag("--processes", "CPU processes that share a batch, without -C (default: 1)", "N", int, 1),
    Flag("--sync-bn", "BatchNorm over all processes instead of each one's part: slower, and the same on any number "
         "of them"),
    Flag("--eager", "with -C: run steps operation by operation, not captured in a CUDA graph: several times as slow"),
    Flag("--deterministic", "with -C: kernels that give the same bits each time, in place of the fastest ones"),
    Flag("--checkpoints", "where checkpoints go, in ARCH/DATA (default: checkpoint)", "FOLDER", Path,
         Path("checkpoint")),
    Flag("--name", "folder of this run in place of ARCH, so that two sizes of a family do not share one "
         "(default: ARCH)", "NAME"),
    Flag("--project", "with -N or -T: replace the kernels every -s epochs, instead of training through the decoder"),
    Flag("--fixed-index", "with -N or -T: keep every unit's reference"),
    Flag("--pretrained", "start from public weights (`mess fetch weights --list`); another class count gets a new "
         "last layer"),
    KEY,
    Flag("--rate-weight", "with -v v4: loss that one bit a weight costs; larger makes smaller files "
         f"(default: {RATE_WEIGHT:g})", "L", float, RATE_WEIGHT),
    Flag("--teacher", "with -v v4: the float network whose predictions are learned, of any architecture, or labels "
         "(default: with -N the network of --ckpt, with -T labels)", "CKPT"),
)  # fmt: skip
BITS = (
    Flag("--scale-bits", "bits of α: 2-12, 16 or 32 (default: 32; v4 has no α)", "B", int, 32),
    Flag("--offset-bits", "bits of β: 2-12, 16 or 32 (default: 32; v4 has no β)", "B", int, 32),
    Flag("--rest-bits", "bits of all that is stored as it is: 2-12, 16 or 32 "
         f"(default: {REST_BITS}; v4: what each vector is worth, {TRAINED_REST_BITS} in training)", "B", int),
    Flag("--pointwise", "store 1x1 convolutions too, as slices of D numbers (default: as they are)", "D", int),
    Flag("--linear", "with --pointwise: linear layers too"),
)  # fmt: skip
NORMALISATION = (
    Flag("--mean", "mean of R, G, B in 0…1 (default: the file's, else the dataset's)", "X", float, nargs=3),
    Flag("--std", "their standard deviation (default: the file's, else the dataset's)", "X", float, nargs=3),
)
IMAGES = (
    Flag("--resize", "shorter side in tests (default: the file's, else 256/224 of --crop)", "N", int),
    Flag("--crop", "side of what the network sees (default: the file's, else 224)", "N", int),
    Flag("--jitter", "change brightness, contrast and saturation by up to this share in training (default: 0)",
         "SHARE", float, 0.0),
)  # fmt: skip


def add_flags(
    parser: argparse.ArgumentParser, title: str | None, flags: Sequence[Flag], about: str | None = None
) -> None:
    """Add flags to a parser, under a title, if there is one, and what is said about all of them."""
    group = parser if title is None else parser.add_argument_group(title, about)
    for flag in flags:
        flag.add_to(group)


def add_specified_flags(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add every flag of the specification's `main.py`, with its letters, names and defaults.

    Args:
        several: DATA and ARCH take several names, and none means all (`mess train-all`).

    A default shown as text but stored as None (``--layers``, ``--groups``) lets a family put its own in its place.
    """
    usual = ", ".join(SPECIFIED_DATASETS) if several else "cifar10"
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*" if several else "?",
        default=list(SPECIFIED_DATASETS) if several else "cifar10",
        type=_dataset,
        help=f"dataset: {' | '.join(DATASETS)}, or a folder of class folders (default: {usual})",
    )
    arch = Flag(
        "-a --arch",
        f"model architecture: {' | '.join(FAMILIES)} (default: {'all' if several else 'mobilenet'})",
        "ARCH",
        _architecture,
        FAMILIES if several else "mobilenet",
        nargs="+" if several else None,
    )
    add_flags(parser, "network", (arch, *NETWORK))
    add_flags(parser, "run", RUN)
    add_flags(parser, "training", TRAINING)
    add_flags(parser, "storing scheme", SCHEME)


def add_more_flags(parser: argparse.ArgumentParser) -> None:
    """Add what the specification leaves open; every default keeps its behaviour."""
    add_flags(parser, "more about training", MORE)
    add_bit_flags(parser)
    add_normalisation_flags(parser)
    add_flags(parser, "images in folders", IMAGES)


def add_bit_flags(parser: argparse.ArgumentParser) -> None:
    """Add how the numbers of a `.mess` file are stored."""
    add_flags(parser, "numbers in the .mess file", BITS)


def add_normalisation_flags(parser: argparse.ArgumentParser) -> None:
    """Add how the network's input was normalised; weights trained elsewhere differ in it."""
    add_flags(parser, "input of the network", NORMALISATION)


def _architecture(name: str) -> str:
    if name not in FAMILIES:
        raise OptionError("--arch", one_of(FAMILIES, name), name)
    return name


def _dataset(name: str) -> str:
    """Refuse a name that is neither a dataset nor a folder, before anything slow starts."""
    if name not in DATASETS and not Path(name).is_dir():
        raise OptionError("DATA", one_of(DATASETS, name) + " or a folder of class folders", name)
    return name
