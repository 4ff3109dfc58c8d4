"""What a run tells the outside: reports a `Reporter` may show, and the CSV file of its epochs."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mess.errors import CheckpointError
from mess.files import atomic_write

ADDED = ("bits", "best_epoch")  # columns that came one after the other, each the last


@dataclass(frozen=True)
class StepReport:
    """Where an epoch is. Scores are averages since its start, over all processes.

    Attributes:
        epoch: the running epoch, from 1.
        step: steps done of `steps` in it.
        loss: mean cross-entropy, nats a sample.
        top1: percent of samples whose label got the highest score; top5: one of the five highest.
        eta_s: seconds left of the whole run.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    top1: float
    top5: float
    images_per_s: float
    lr: float
    eta_s: float


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch, `epoch` of `epochs`, from 1; scores in nats and percent, seconds of it and of the run.

    Attributes:
        bits: a weight, as estimated where there is a price on them; else 0.
        best_epoch: which one is the best so far, as the run judges; 0 in logs of earlier versions, which do not say it.
    """

    epoch: int
    epochs: int
    lr: float
    train_loss: float
    train_top1: float
    test_loss: float
    test_top1: float
    test_top5: float
    best_top1: float
    epoch_seconds: float
    total_seconds: float
    bits: float = 0.0
    best_epoch: int = 0

    @property
    def is_best(self) -> bool:
        """It is better than all before."""
        return self.best_epoch == self.epoch


class Reporter:
    """Who is told; this one does nothing, the one with colours lives in `cli/`. Only the main process tells."""

    def start(self, info: dict[str, object]) -> None:
        """A run begins: what is trained, where, and from which point, as name → value."""

    def step(self, report: StepReport) -> None:
        """Some steps were done."""

    def eval_step(self, done: int, total: int) -> None:
        """A test has done `done` of `total` batches."""

    def stage(self, what: str, done: int, total: int) -> None:
        """Before the first step: `what` has come to `done` of `total`, 0 where nobody knows how many."""

    def epoch_end(self, report: EpochReport) -> None:
        """An epoch was trained, tested and saved."""

    def message(self, text: str, kind: str = "info") -> None:
        """Something else worth a line; `kind` is "info" or "warning"."""


class CsvLog:
    """One row an epoch. A resumed run goes on below the epochs it resumes from; rows of later ones are dropped.

    Args:
        path: the file; written anew if it is missing or has other columns.
        epochs_done: epochs that are done already: 0 starts the file anew.
    """

    columns = tuple(field.name for field in fields(EpochReport))

    def __init__(self, path: Path, epochs_done: int = 0) -> None:
        self.path = path
        self._rows = [row for row in _rows(path) if int(row["epoch"]) <= epochs_done]

    def append(self, report: EpochReport) -> None:
        """Add the row of one epoch. The file is small and is written whole, so that no crash leaves half a row.

        Raises:
            OSError: it cannot be written.
        """
        values = ((name, getattr(report, name)) for name in self.columns)
        row = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in values}
        self._rows = [kept for kept in self._rows if kept["epoch"] != row["epoch"]] + [row]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self.path, text.getvalue().encode())


def read_log(path: Path) -> list[EpochReport]:
    """Return the epochs of a log, also of a run that still writes it.

    Raises:
        CheckpointError: not a log of ours, or a row in it that is none.
        OSError: it cannot be read.
    """
    rows = _rows(path)
    if not rows:
        raise CheckpointError(path, f"a log with the columns {', '.join(CsvLog.columns)}", "another file, or no rows")
    try:
        return [_read_row(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, "a number in each column of each row", error) from error


def _read_row(row: dict[str, str]) -> EpochReport:
    numbers: dict[str, Any] = {name: float(text) for name, text in row.items()}
    return EpochReport(**{**numbers, **{name: int(row[name]) for name in ("epoch", "epochs", "best_epoch")}})


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a log; none where there is no file or it has other columns."""
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")))
    if tuple(reader.fieldnames or ()) not in [CsvLog.columns[: len(CsvLog.columns) - n] for n in range(len(ADDED) + 1)]:
        return []
    return [{**dict.fromkeys(ADDED, "0"), **row} for row in reader if (row["epoch"] or "").isdigit()]
