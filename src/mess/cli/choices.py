"""From parsed flags to the checked descriptions that `mess.recipes` and `mess.storing` take."""

from __future__ import annotations

import argparse
from collections.abc import Container

import torch

from mess import models
from mess.data.info import check_normalisation
from mess.devices import open_devices
from mess.errors import OptionError
from mess.recipes import DataChoice, DeviceChoice
from mess.recipes.job import LAYER_RULES, STORE_FIELDS
from mess.storing import StoreOptions
from mess.storing.layers import LayerRule


def data_choice(args: argparse.Namespace) -> DataChoice:
    """Return which images the flags ask for; raises OptionError for a mean or deviation that cannot be."""
    check_normalisation(args.mean, args.std)
    numbers = (args.mean, args.std, args.resize, args.crop, args.jitter)
    return DataChoice(args.data, args.datapath, args.workers, *numbers)


def device_choice(args: argparse.Namespace) -> DeviceChoice:
    """Return where the flags want the run to take place."""
    return DeviceChoice(args.cuda, tuple(args.gpuids), args.processes)


def one_device(args: argparse.Namespace) -> torch.device:
    """Return the CPU or, with -C, the one GPU that the flags name.

    Raises:
        DeviceError: none that torch can use, or not this one.
        OptionError: a GPU's id without -C.
    """
    if args.gpuid is not None and not args.cuda:
        raise OptionError("-g", "-C beside it", f"-g {args.gpuid} alone")
    return open_devices(args.cuda, [args.gpuid or 0]).device


def architecture(args: argparse.Namespace) -> models.Architecture:
    """Return the network the flags describe; raises OptionError where none is possible."""
    return models.resolve(args.arch, args.data, layers=args.layers, width_mult=args.width_mult, groups=args.groups)


def store_options(args: argparse.Namespace, idle: Container[str] = ()) -> StoreOptions:
    """Return how a `.mess` file is to be written, from the flags that were typed.

    Args:
        idle: flags that are left out, as they say nothing here.

    Raises:
        OptionError: an unknown version, a number that cannot be, or a flag that says nothing to this version.
    """
    typed = [flag for flag in STORE_FIELDS if flag in args.explicit and flag not in idle]
    given = {STORE_FIELDS[flag]: getattr(args, flag) for flag in typed}
    layers: dict[str, LayerRule] = {}
    for pattern, rule in getattr(args, LAYER_RULES, None) or ():  # not every verb has them
        layers.pop(pattern, None)  # what is said again stands where it was said last
        layers[pattern] = rule
    return StoreOptions(version=args.version, layers=layers, **given)
