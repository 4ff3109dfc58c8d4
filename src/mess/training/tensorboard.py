"""The same figures as `log.csv`, and some within epochs, for TensorBoard (the extra `tensorboard`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mess.errors import OptionError
from mess.training.log import EpochReport, StepReport


def check_installed() -> None:
    """Raise OptionError, with what to install, where TensorBoard is not there."""
    if find_spec("tensorboard") is None:
        raise OptionError(
            "--log tensorboard", "the package tensorboard", "none", "pip install 'mess-cnn[tensorboard]' brings it"
        )


class TensorBoardLog:
    """Curves over training images seen, so that runs with different batch sizes lie on one another.

    The file is opened with the first figure, and every figure is flushed: what a checkpoint knows of is on disk. A file
    that cannot be written is warned of once; training goes on.

    Args:
        folder: of the run; a resumed run adds a file to it.
        first: images from which on what earlier files say does not count; 0 begins the curves anew.
        warn: told what went wrong.
    """

    def __init__(self, folder: Path, first: int, warn: Callable[[str], None]) -> None:
        self.folder, self._first, self._warn = folder, first, warn
        self._writer: Any = None
        self._failed = False

    def step(self, report: StepReport, samples: int) -> None:
        """Note where an epoch is; loss and top-1 are averages since it began."""
        figures = {"loss": report.loss, "top1": report.top1, "images_per_s": report.images_per_s}
        self._note({"lr": report.lr} | {f"steps/{name}": value for name, value in figures.items()}, samples)

    def epoch(self, report: EpochReport, samples: int) -> None:
        """Note a finished epoch."""
        figures = {
            "epoch": report.epoch,
            "loss/train": report.train_loss,
            "loss/test": report.test_loss,
            "top1/train": report.train_top1,
            "top1/test": report.test_top1,
            "top1/best": report.best_top1,
            "top5/test": report.test_top5,
            "seconds_an_epoch": report.epoch_seconds,
        }
        self._note(figures | ({"bits_a_weight": report.bits} if report.bits else {}), samples)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with self._trying():
                self._writer.close()
            self._writer = None

    def _note(self, figures: Mapping[str, float], samples: int) -> None:
        if self._failed:
            return
        with self._trying():
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                wait_for_another_second(self.folder)
                self._writer = SummaryWriter(str(self.folder), purge_step=self._first)
            for name, value in figures.items():
                self._writer.add_scalar(name, value, samples)
            self._writer.flush()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failed:
                self._warn(f"could not write for TensorBoard to {self.folder}: {error}; training goes on")
            self._failed = True


def wait_for_another_second(folder: Path) -> None:
    """Wait until no file of a folder was opened in this very second.

    TensorBoard reads files in the order of their names, which begin with that second and end with numbers as text, 10
    before 9: of two of one second the later may come first, and its curves are taken for those that the other drops.
    """
    opened = {path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*")}
    while str(int(time.time())) in opened:
        time.sleep(0.05)
