"""Flags that were typed and say nothing beside the others: told, as nobody types them for nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from rich.console import Console

IMAGES_IN_FILES = "images in files"


def idle_flags(args: argparse.Namespace) -> dict[str, str]:
    """Return the flags of `mess train` that were given and say nothing beside the others, and what each needs."""
    from mess.data.info import takes_sizes
    from mess.recipes.job import LABELS

    through = args.new or args.retrain
    priced = through and args.version == "v4"
    by_labels = args.teacher == LABELS or (args.teacher is None and args.retrain)
    needs = {
        "-N or -T": (through, ("version", "project")),
        "-N or -T, and no --project": (through and not args.project, ("fixed_index",)),
        "another version than v4": (not priced, ("momentum", "wd")),
        "-v v4 and -N or -T": (priced, ("rate_weight", "teacher")),
        "labels to learn (--teacher labels)": (by_labels or not priced, ("label_smoothing",)),
        "-v": (args.version is not None, ("scale_bits", "offset_bits", "rest_bits", "pointwise", "linear")),
        "-v v2 … -v v3a": (args.version != "v1", ("scale_bits", "offset_bits")),
        "-v v3 or -v v3a": (args.version in ("v3", "v3a"), ("bind_size",)),
        "-Q or -v v2q": (args.quant or args.version == "v2q", ("qb",)),
        "--nl": (args.nl, ("nls",)),
        "--pl": (args.pl, ("pls",)),
        "--ckpt, or beside -R": (args.ckpt is not None and not args.resume, ("key",)),
        "-C": (args.cuda, ("gpuids", "eager", "deterministic")),
        IMAGES_IN_FILES: (takes_sizes(args.data), ("resize", "crop", "jitter")),
    }
    idle = {flag: needed for needed, (there, flags) in needs.items() for flag in flags if not there}
    return {flag: needed for flag, needed in idle.items() if flag in args.explicit}


def idle_in_tests(args: argparse.Namespace) -> dict[str, str]:
    """Return the flags of `mess test` that say how images are cut, where images are taken as they are.

    It takes all flags of `mess train` in silence: what trained a network also names it.
    """
    from mess.data.info import takes_sizes

    sizes = {flag: IMAGES_IN_FILES for flag in ("resize", "crop") if flag in args.explicit}
    return {} if takes_sizes(args.data) else sizes


def tell(console: Console, args: argparse.Namespace, idle: Mapping[str, str]) -> None:
    """Name flags as they were typed; what a checkpoint or a file of flags said is not typed."""
    for flag, needed in idle.items():
        if typed := args.explicit[flag]:
            console.print(f"{typed[0]} says nothing without {needed}", style="yellow", markup=False, soft_wrap=True)
