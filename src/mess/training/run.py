"""The pieces of a run, and how they become a checkpoint and come back from one."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess.devices import Devices
from mess.errors import CheckpointError, MessError, OptionError, OutputError
from mess.training import checkpoint as files
from mess.training.capture import CapturedStep
from mess.training.ema import WeightAverage
from mess.training.evaluation import BatchSource, Scores, Tally
from mess.training.hooks import Hooks
from mess.training.log import CsvLog, Reporter
from mess.training.optim import load_state, make_optimizer, plain_state, prepare_capture
from mess.training.options import TrainOptions
from mess.training.step import Step
from mess.training.tensorboard import TensorBoardLog
from mess.version import __version__

RESULTS = (files.BEST, files.LAST)
OTHER_DATA = "To train on other images from here on, start from the file: --ckpt without --resume"


class DivergedError(MessError):
    """The loss is NaN or infinite: going on is of no use, and nothing of it was saved."""


@dataclass
class Position:
    """Where a run stands; plain numbers, all of them in every checkpoint.

    Attributes:
        epoch: epochs done.
        step: steps done in the epoch that runs.
        trained: that epoch's training is done, `after_epoch` included, and only its test is left.
        samples: training samples seen in the whole run.
        best_top1: percent, of `best_epoch` (from 1; 0 = none yet).
        best_cost: where bits have a price: nats, test loss and price of `best_epoch`.
        seconds: of the whole run, and `epoch_seconds` of the epoch that runs; time between sessions not counted.
    """

    epoch: int = 0
    step: int = 0
    trained: bool = False
    samples: int = 0
    best_top1: float = 0.0
    best_epoch: int = 0
    best_cost: float = math.inf
    seconds: float = 0.0
    epoch_seconds: float = 0.0


class Run:
    """Model, optimizer, data and progress of one call of `fit`.

    Attributes:
        model: the network itself; `forward` is the same one, wrapped for the devices.
        optimizer: the optimizer itself; `stepper` the same one, wrapped.
        tally: the scores of the epoch that runs.
        step: does one step; captured where `captures` says so.
    """

    def __init__(
        self,
        model: nn.Module,
        data: tuple[BatchSource, BatchSource],
        options: TrainOptions,
        devices: Devices,
        hooks: Hooks,
        folder: Path,
        reporter: Reporter,
        resume_from: Mapping[str, Any] | None,
    ) -> None:
        self.train, self.test = data
        self.options, self.devices, self.hooks, self.folder, self.reporter = options, devices, hooks, folder, reporter
        if len(self.train) == 0:
            raise OptionError("--batch-size", "a training set of at least two samples a process", options.batch_size)
        self.model = model.to(devices.device)
        if options.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if options.sync_bn:
            devices.synchronise(self.model)
        self.captures = devices.captures and not options.eager
        self.optimizer = (hooks.optimizer or make_optimizer)(self.model, options, self.captures)
        if self.captures:
            prepare_capture(self.optimizer, devices.device)
        self.average = WeightAverage(self.model, options.ema) if options.ema else None
        self.tally = Tally(devices)
        self.progress = Position()
        if resume_from is not None:
            self._restore(resume_from)
        self._check_same_place()
        self.forward, self.stepper = devices.setup(self.model, self.optimizer)
        devices.load_scaler_state(resume_from["scaler"] if resume_from else {})
        self.step: Step | CapturedStep = Step(self)
        if self.captures:
            self.step = CapturedStep(self, self.step)
        self.csv = CsvLog(folder / "log.csv", self.progress.epoch)
        self.board = self._board(begins_anew=resume_from is None)
        self.save_steps, self.save_seconds = options.saving_interval()
        self.unsaved: dict[str, str] = {}  # files that could not be written the last time, and why
        self.steps_since_save, self._mark, self._saved_at = 0, time.perf_counter(), time.perf_counter()

    @property
    def architecture(self) -> dict[str, Any] | None:
        """The network's own description, if it carries one: plain, as in a checkpoint."""
        described: Any = getattr(self.model, "architecture", None)
        return described.to_dict() if hasattr(described, "to_dict") else None

    def _board(self, *, begins_anew: bool) -> TensorBoardLog | None:
        """Return the log for TensorBoard. A resumed run drops what was noted behind its place, which comes again.

        Where only an epoch's test is left, its row may be there already, at the very place.
        """
        if self.options.log != "tensorboard" or not self.devices.is_main:
            return None
        place = self.progress.samples + (0 if self.progress.trained else 1)
        return TensorBoardLog(self.folder, 0 if begins_anew else place, partial(self.reporter.message, kind="warning"))

    def close(self) -> None:
        """Close what is open."""
        if self.board is not None:
            self.board.close()

    def is_save_epoch(self) -> bool:
        """Return whether the running epoch ends with a checkpoint that is kept: every `save_epoch`, and the last."""
        done = self.progress.epoch + 1
        return done % self.options.save_epoch == 0 or done == self.options.epochs

    def save_is_due(self) -> bool:
        """Return whether `save_every` asks for a save after this step (judged by this process's clock)."""
        if self.save_steps is not None:
            return self.steps_since_save >= self.save_steps
        return self.save_seconds is not None and time.perf_counter() - self._saved_at >= self.save_seconds

    def is_best(self, scores: Scores, bits: float) -> bool:
        """Note the running epoch as the best so far, if it is: by accuracy, or by cost where bits have a price."""
        progress, cost = self.progress, math.inf
        if self.hooks.bit_price:
            cost = scores.loss + self.hooks.bit_price * bits
            better = cost < progress.best_cost
        else:
            better = scores.top1 > progress.best_top1
        if progress.best_epoch == 0 or better:
            progress.best_top1, progress.best_epoch, progress.best_cost = scores.top1, progress.epoch + 1, cost
        return progress.best_epoch == progress.epoch + 1

    def tick(self) -> None:
        """Bring the times in `progress` up to now."""
        now = time.perf_counter()
        self.progress.seconds += now - self._mark
        self.progress.epoch_seconds += now - self._mark
        self._mark = now

    def check_finite(self) -> None:
        """Stop a run whose loss is NaN or infinite; asked before anything of it is reported or saved.

        Raises:
            DivergedError: names the step.
        """
        if math.isfinite(self.tally.read().loss):
            return
        step = self.tally.first_bad_step()
        self._diverged(self.progress.step if step is None else step + 1, "a finite loss", "NaN or infinity")

    def _diverged(self, step: int, expected: str, found: str) -> None:
        kept = next((self.folder / name for name in (files.LAST, files.BEST) if (self.folder / name).exists()), None)
        ours = kept is not None and self.progress.epoch > 0  # else it is of an earlier run
        hint = "Try a lower --lr" + (f"; the last good state is kept in {kept}" if ours else "")
        self.devices.fail(DivergedError(f"epoch {self.progress.epoch + 1}, step {step}", expected, found, hint))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the model its averaged weights, if there are any, for the length of a ``with`` block."""
        if self.average is None:
            yield
        else:
            with self.average.applied():
                yield

    def state(self, sums: list[float]) -> dict[str, Any]:
        """Return the whole state as plain tensors on the CPU, numbers and strings.

        Args:
            sums: of the tally, over all processes.

        No generator's state is among it: each draw is a function of seed, epoch, step and process (`loop.step_seed`).
        """
        average = None
        if self.average is not None:
            with self.averaged():
                average = {"steps": self.average.steps, "state_dict": _on_cpu(self.hooks.export(self.model))}
            if self.model.state_dict().keys() != average["state_dict"].keys():  # computed weights: keep what is trained
                average["tensors"] = _on_cpu(self.average.tensors())
        lr = float(self.optimizer.param_groups[0]["lr"])
        return {
            "format": files.FORMAT,
            "architecture": self.architecture,
            "state_dict": _on_cpu(self.hooks.export(self.model)),
            "optimizer": _on_cpu(plain_state(self.optimizer)),
            "scheduler": {"schedule": self.options.schedule, "lr": lr},
            "scaler": self.devices.scaler_state(),
            "ema": average,
            "seed": self.options.seed,
            "options": self.options.to_dict(),
            "devices": str(self.devices),
            "job": self.devices.job,
            "epoch_samples": self._epoch_samples(),
            "extra": _on_cpu(self.hooks.extra_state()),
            "sums": sums,
            "versions": {"mess": __version__, "python": platform.python_version(), "torch": str(torch.__version__)},
            "bit_price": self.hooks.bit_price,
            **self.hooks.facts,
            **asdict(self.progress),
        }

    def save(self, names: list[str]) -> bool:
        """Write the state to `names` in the run's folder and return whether that worked; every process has to call it.

        A full disk ends nothing: it is warned of, what was saved before is still there, and training goes on.

        Raises:
            DivergedError: the state is not worth keeping, and what was saved before is.
        """
        self.check_finite()
        self._check_weights()
        sums = self.tally.sums()
        self.tick()
        self.steps_since_save, self._saved_at = 0, time.perf_counter()
        if not self.devices.is_main:
            return True
        content = files.encode(self.state(sums))
        written = [self._write(name, content) for name in names]
        return all(written)

    def _check_weights(self) -> None:
        weights = self.hooks.export(self.model)
        finite = torch.stack([tensor.isfinite().all() for tensor in weights.values()])  # one look, at all of them
        if not bool(finite.all()):
            broken = list(weights)[finite.tolist().index(False)]
            self._diverged(self.progress.step, "finite weights", f"NaN or infinity in {broken}")

    def _write(self, name: str, content: bytes) -> bool:
        try:
            if name == files.LAST:
                files.save_last(self.folder, content)
            else:
                files.save(self.folder / name, content)
                if self.hooks.saved is not None:
                    with self.averaged():
                        self.hooks.saved(self.folder / name, self.model)
        except (OSError, OutputError, CheckpointError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            self.reporter.message(f"could not save {self.folder / name}: {reason}", "warning")
            self.unsaved[name] = reason
            return False
        self.unsaved.pop(name, None)
        return True

    def refuse_loss(self) -> None:
        """End a run whose last state, or best epoch, is on no disk with an error, in every process.

        Raises:
            OutputError: names the file.
        """
        lost = self.devices.once(lambda: {name: self.unsaved[name] for name in RESULTS if name in self.unsaved})
        for name, reason in lost.items():
            expected, hint = "the end of the run to be saved", "--resume goes on from what was saved before"
            self.devices.fail(OutputError(self.folder / name, expected, reason, hint))

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up what `state` gave, on whatever devices it was taken."""
        files.check_same_network(checkpoint, self.architecture, "--resume")
        seen, here = checkpoint.get("epoch_samples", self._epoch_samples()), self._epoch_samples()
        if seen != here:
            raise CheckpointError("--resume", f"the {seen:,} training samples of this run", f"{here:,}", OTHER_DATA)
        try:
            if self.hooks.load_extra_state is not None:
                self.hooks.load_extra_state(checkpoint["extra"])
            if self.average is not None:
                average = checkpoint["ema"] or {"steps": 0, "state_dict": checkpoint["state_dict"]}
                self.hooks.load(self.model, average["state_dict"])
                self.average.take(average["steps"], average.get("tensors"))
            self.hooks.load(self.model, checkpoint["state_dict"])
            # settings are those of the options, in which an explicit flag wins over the checkpoint
            load_state(self.optimizer, checkpoint["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError("--resume", "the state of this very network and recipe", reason) from error
        # earlier versions judged by accuracy alone: their best epoch has no cost, and the next one takes its place
        self.progress = Position(**{f.name: checkpoint.get(f.name, f.default) for f in fields(Position)})
        if checkpoint.get("bit_price", 0.0) != self.hooks.bit_price:  # costs at another price compare to nothing
            self.progress.best_cost = math.inf
        self.tally.take(checkpoint["sums"])
        self._fit_step_to_batch(checkpoint["options"].get("batch_size", self.options.batch_size))

    def _epoch_samples(self) -> int:
        last = len(self.train) - 1
        return last * self.train.global_size(0) + self.train.global_size(last)

    def _check_same_place(self) -> None:
        """Refuse processes that have read different checkpoints, as on machines that do not share the folder."""
        place = self.progress.samples
        if self.devices.any(self.devices.highest(place) != place):
            expected, hint = "the same checkpoint in every process", "All machines have to see one and the same folder"
            self.devices.fail(CheckpointError(self.folder, expected, "different ones", hint))

    def _fit_step_to_batch(self, saved_batch: int) -> None:
        """Keep the place in the epoch when a resume changes the batch size: steps of another size count otherwise."""
        progress = self.progress
        if progress.trained or saved_batch == self.options.batch_size or progress.step == 0:
            return
        seen = progress.step * saved_batch
        progress.step = min(seen // self.options.batch_size, len(self.train))
        again = seen - progress.step * self.options.batch_size
        if again > 0 and self.devices.is_main:
            self.reporter.message(f"the batch size changed within an epoch: {again} samples are seen twice", "warning")


def _on_cpu(value: Any) -> Any:
    """Return a copy of nested containers with every tensor copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value
