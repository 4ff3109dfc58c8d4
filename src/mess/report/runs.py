"""What a report says of a run: the rows of its log, and the files it has written so far."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STORED = re.compile(r"ckpt_epoch_(\d+)_.+\.mess")


@dataclass(frozen=True)
class RunFacts:
    """A run, finished or still going.

    Attributes:
        name: what it is called in the report.
        epochs: of the whole run.
        columns: the log, a list for each column of `mess.training.log.EpochReport`.
        sizes: bytes of the `.mess` files that epochs have left.
    """

    name: str
    epochs: int
    columns: Mapping[str, Sequence[float]] = field(repr=False)
    sizes: dict[int, int] = field(repr=False, default_factory=dict)

    @property
    def done(self) -> int:
        """Epochs done."""
        return int(self.columns["epoch"][-1]) if self.columns["epoch"] else 0

    @property
    def best(self) -> tuple[float, int]:
        """The accuracy of the best epoch so far in percent, and that epoch; training says which is best."""
        found, best = list(self.columns["test_top1"]), self.columns["best_top1"][-1]
        if epoch := int(self.columns["best_epoch"][-1]):
            return best, epoch
        best = best if best in found else max(found)  # a log of an earlier version, that may have lost its first rows
        return best, int(self.columns["epoch"][found.index(best)])

    @property
    def seconds(self) -> float:
        """Seconds the run has taken, sessions added up."""
        return self.columns["total_seconds"][-1]

    @property
    def seconds_left(self) -> float:
        """Seconds that the epochs left would take at the pace of the last five."""
        recent = list(self.columns["epoch_seconds"])[-5:]
        return (self.epochs - self.done) * sum(recent) / len(recent)


def stored_by_epoch(folder: Path) -> dict[int, int]:
    """Return the bytes of a run's `ckpt_epoch_N_VERSION.mess`, by epoch."""
    found = ((match, path) for path in folder.glob("*.mess") if (match := STORED.fullmatch(path.name)))
    return dict(sorted((int(match[1]), path.stat().st_size) for match, path in found))


def best_files(folder: Path) -> list[Path]:
    """Return the `.mess` files of a run's best epoch."""
    return sorted(folder.glob("ckpt_best_*.mess"))
