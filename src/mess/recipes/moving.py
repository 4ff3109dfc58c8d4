"""A run that goes on in another folder, or goes back to an earlier epoch: what belongs to it comes along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mess.files import atomic_write
from mess.recipes.hooks import stored_beside
from mess.recipes.job import Job
from mess.training import Reporter
from mess.training.checkpoint import BEST, LAST, epoch_checkpoints, holds_best

LOG = "log.csv"


def bring_along(job: Job, at: Path, resumed: Mapping[str, Any], rounds: int, reporter: Reporter) -> None:
    """Bring the best epoch of a resumed run, with its `.mess` file, and its log into the folder it goes on in.

    What cannot be copied is warned of; `training.fit` sees to a best epoch that is nowhere.

    Args:
        at: the checkpoint that is gone on from, `resumed`.
        rounds: of retraining.
    """
    folder, elsewhere = job.folder, at.parent.resolve() != job.folder.resolve()
    if elsewhere and any((folder / name).exists() for name in (LAST, BEST)):
        text = f"{folder} has another run, which will be replaced by the one of {at}: another --name keeps both"
        reporter.message(text, "warning")
    best = _best_of(job, at, resumed, rounds)
    if best is not None and not elsewhere and (folder / BEST).exists():
        reporter.message(f"{folder / BEST} is of later epochs, and gives way to {best.name}", "warning")
    pairs = [] if best is None else [(best, folder / BEST)]
    if best is not None and (store := job.scheme.store) is not None:
        pairs.insert(0, (stored_beside(best, store, rounds), stored_beside(folder / BEST, store, rounds)))
    if elsewhere and (at.parent / LOG).exists():
        pairs.append((at.parent / LOG, folder / LOG))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in pairs:
            atomic_write(target, source.read_bytes())
    except OSError as error:
        reporter.message(f"could not copy what belongs to {at}: {error}; training goes on", "warning")


def _best_of(job: Job, at: Path, resumed: Mapping[str, Any], rounds: int) -> Path | None:
    """Return the checkpoint of the best epoch so far that the run's folder lacks, as far as it lies beside `at`.

    One without the `.mess` file that the run makes of it does not count.
    """
    epoch, top1, store = resumed["best_epoch"], resumed["best_top1"], job.scheme.store
    if epoch == 0 or holds_best(job.folder / BEST, epoch, top1):
        return None
    kept = epoch_checkpoints(at.parent)
    for path in (at.parent / BEST, *([kept[epoch]] if epoch in kept else [])):
        if (store is None or stored_beside(path, store, rounds).exists()) and holds_best(path, epoch, top1):
            return path
    return None
