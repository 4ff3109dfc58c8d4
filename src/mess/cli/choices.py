"""From parsed flags to the checked descriptions that `mess.recipes` and `mess.storing` take."""

from __future__ import annotations

import argparse
import math

from mess import models
from mess.cli.flags import VERSIONS
from mess.errors import OptionError
from mess.recipes import DataChoice, DeviceChoice
from mess.storing import LEARNED, StoreOptions

OF_MATCHING = ("scale_bits", "offset_bits", "pointwise", "linear")  # flags that say nothing to version 4
OF_LEARNING = ("calibration", "target_size", "max_drop")  # and to the others


def data_choice(args: argparse.Namespace) -> DataChoice:
    """Return which images the flags ask for; raises OptionError for a mean or deviation that cannot be."""
    check_normalisation(args)
    numbers = (args.mean, args.std, args.resize, args.crop, args.jitter)
    return DataChoice(args.data, args.datapath, args.workers, *numbers)


def device_choice(args: argparse.Namespace) -> DeviceChoice:
    """Return where the flags want the run to take place."""
    return DeviceChoice(args.cuda, tuple(args.gpuids), args.processes)


def architecture(args: argparse.Namespace, num_classes: int | None = None) -> models.Architecture:
    """Return the network the flags describe; raises OptionError where none is possible."""
    return models.resolve(
        args.arch,
        args.data,
        num_classes=num_classes,
        layers=args.layers,
        width_mult=args.width_mult,
        groups=args.groups,
    )


def check_normalisation(args: argparse.Namespace) -> None:
    """Raise OptionError where `--mean` or `--std` are no numbers that a network's input can be normalised with."""
    for flag, values in (("--mean", args.mean), ("--std", args.std)):
        if values is not None and not all(map(math.isfinite, values)):
            raise OptionError(flag, "three finite numbers", " ".join(map(str, values)))
    if args.std is not None and min(args.std) <= 0:
        raise OptionError("--std", "three numbers above 0", " ".join(map(str, args.std)))


def refuse_other_versions_flags(args: argparse.Namespace) -> None:
    """Raise OptionError where a flag was typed that says nothing to the version that is asked for."""
    learned = args.version == LEARNED
    others = ", ".join(VERSIONS) if learned else f"-v {LEARNED}"
    for flag in OF_MATCHING if learned else OF_LEARNING:
        if flag in args.explicit:
            raise OptionError("--" + flag.replace("_", "-"), f"{others} beside it", args.version)


def store_options(args: argparse.Namespace) -> StoreOptions:
    """Return how a `.mess` file is to be written; raises OptionError for an unknown version or number of bits."""
    return StoreOptions(
        version=args.version,
        bind=args.bind_size,
        quant_bits=args.qb,
        pointwise=args.pointwise,
        linear=args.linear,
        scale_bits=args.scale_bits,
        offset_bits=args.offset_bits,
        rest_bits=args.rest_bits,
        self_contained=getattr(args, "self_contained", False),
    )
