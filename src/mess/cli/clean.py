"""`mess clean`: delete the checkpoints of single epochs, and nothing else.

What stays: `ckpt_best.pth`, `ckpt_last.pth` and the one before it, `log.csv`, and every `.mess` file: those are small,
and the files of single epochs are what a series of bytes against accuracy is made of.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mess.cli.flags import Flag
from mess.cli.output import make_console
from mess.errors import CheckpointError

EXAMPLES = """Examples:
  mess clean --dry-run                   say what would go, how large it is
  mess clean                             all runs in checkpoint/
  mess clean checkpoint/resnet/cifar10   one run"""
MAX_DEPTH = 2  # folders between the one that is named and a run's: checkpoint/ARCH/DATA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess clean`."""
    about = "a run's folder, or one that holds such folders as ARCH/DATA (default: checkpoint)"
    Flag("folder", about, "FOLDER", Path, Path("checkpoint"), nargs="?").add_to(parser)
    Flag("--dry-run", "only say what would be deleted").add_to(parser)


def run(args: argparse.Namespace) -> int:
    """Delete, and say what and how many bytes."""
    console = make_console(args, soft_wrap=True)
    gone = [path for folder in runs_in(args.folder) for path in spare(folder)]
    total = 0
    for path in gone:
        size = path.stat().st_size
        if not args.dry_run:
            path.unlink()
        total += size
        console.print(f"{path}  {size:,} B", markup=False)
    said = "would be deleted" if args.dry_run else "deleted"
    console.print(f"[bold]{len(gone)} checkpoints of epochs, {total:,} B[/] {said}")
    return 0


def runs_in(folder: Path) -> list[Path]:
    """Return the folders of runs: those with a checkpoint in them, at most two below `folder`; links are not followed.

    Raises:
        CheckpointError: there is none.
    """
    found = [inner for inner in _within(folder, MAX_DEPTH) if _holds_checkpoints(inner)]
    if not found:
        there = "no such folder" if not folder.is_dir() else "none"
        raise CheckpointError(folder, "a folder with checkpoints of runs (ARCH/DATA/ckpt_….pth)", there)
    return found


def _within(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth and folder.is_dir():
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _within(inner, depth - 1)


def _holds_checkpoints(folder: Path) -> bool:
    from mess.training.checkpoint import BEST, LAST, epoch_checkpoints

    return any(path.is_file() for path in (folder / BEST, folder / LAST, *epoch_checkpoints(folder).values()))


def spare(folder: Path) -> list[Path]:
    """Return the checkpoints of epochs a run can do without; where it has no other, its newest stays."""
    from mess.training.checkpoint import BEST, LAST, epoch_checkpoints

    by_epoch = epoch_checkpoints(folder)
    paths = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    if not (folder / BEST).is_file() and not (folder / LAST).is_file():
        paths = paths[:-1]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
