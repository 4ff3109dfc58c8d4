"""Training: the loop that everything else in this folder serves.

::

    fit ──► while epochs are left:   train_epoch ──► test_epoch ──► log, checkpoints
                                       │ train_step, poll     │ evaluate, poll

A run's place is (epochs done, steps done, training of the epoch done or not), and everything random is a function of
the place and the seed. So a state saved between any two steps goes on as if nothing had happened: bitwise the same run
on the same set-up, within rounding on another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess.devices import Devices
from mess.training import checkpoint as files
from mess.training.evaluation import BatchSource, Scores, evaluate
from mess.training.hooks import Hooks
from mess.training.log import EpochReport, Reporter, StepReport
from mess.training.optim import set_lr
from mess.training.options import TrainOptions
from mess.training.run import Position, Run
from mess.training.schedule import lr_at
from mess.training.signals import SignalWatch, StopRequested

SAVE = 1  # a wish between steps: 0 = go on, SAVE, or a signal's number, which is higher (SIGINT 2, SIGTERM 15)


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Attributes:
        best_top1: percent, in `best_epoch` (from 1), over all sessions of the run: the most accurate, or where bits
            have a price the one of least test loss and price together.
        last: scores of the last test in this session; None if there was none.
        epochs: epochs done, over all sessions; seconds likewise.
        stopped_by_signal: number of the signal that stopped it, or None.
    """

    best_top1: float
    best_epoch: int
    last: Scores | None
    epochs: int
    seconds: float
    seconds_per_epoch: float
    stopped_by_signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0, or what a shell reports for the signal: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.stopped_by_signal is None else 128 + self.stopped_by_signal


def fit(
    model: nn.Module,
    train: BatchSource,
    test: BatchSource,
    options: TrainOptions,
    devices: Devices,
    *,
    hooks: Hooks | None = None,
    checkpoint_dir: Path,
    reporter: Reporter | None = None,
    resume_from: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train `model`, test it after each epoch, and keep checkpoints from which the run can go on anywhere.

    Args:
        model: trained in place; at the end it has the weights of the last step.
        train: this process's parts of the training set; test likewise.
        options: how to train.
        devices: where; `fit` runs in every process (see `Devices.launch`).
        hooks: what a recipe adds.
        checkpoint_dir: gets `ckpt_*.pth`, `log.csv` and, where `options.log` says so, what TensorBoard shows.
        reporter: told what happens, in the main process only.
        resume_from: a checkpoint from `training.checkpoint.load`.

    Raises:
        DivergedError: the loss is not finite; names the step, the last good checkpoint is kept.
        OutputError: all is trained, and the last state or the best epoch could not be saved.
        CheckpointError: `resume_from` belongs to another network.
    """
    heard = reporter if reporter is not None and devices.is_main else Reporter()
    run = Run(model, (train, test), options, devices, hooks or Hooks(), checkpoint_dir, heard, resume_from)
    _announce(run, resume_from)
    if devices.is_main:
        files.remove_leftovers(checkpoint_dir)
    if resume_from is not None:
        keep_best(run)
    if devices.may_restart:
        run.save([files.LAST])  # what a restart finds is then of this run, however soon it comes
    last, signum = None, None
    with SignalWatch() as watch, closing(run):
        try:
            while run.progress.epoch < options.epochs:
                train_epoch(run, watch)
                last = test_epoch(run, watch)
        except StopRequested as stop:
            signum = stop.signum
            if run.save([files.LAST]):
                heard.message(
                    f"{stop}; the state is kept in {checkpoint_dir / files.LAST}: --resume goes on", "warning"
                )
        else:
            run.refuse_loss()
    done = run.progress
    average = done.seconds / max(1, done.epoch)
    return FitResult(done.best_top1, done.best_epoch, last, done.epoch, done.seconds, average, signum)


def keep_best(run: Run) -> None:
    """See to it that a resumed run's folder has its best epoch; one that is nowhere gives way to the best from here on.

    It is not there where a run goes on in another folder, or goes back behind an epoch that was better.
    """
    progress, path = run.progress, run.folder / files.BEST
    epoch, top1 = progress.best_epoch, progress.best_top1
    if epoch == 0 or run.devices.once(lambda: files.holds_best(path, epoch, top1)):
        return
    if (progress.epoch, progress.step, progress.trained) == (epoch, 0, False):
        run.save([files.BEST])
    elif progress.epoch < run.options.epochs:
        run.reporter.message(
            f"{path} is not the best epoch so far, {epoch} with {top1:.2f}%: the best from here on takes its place",
            "warning",
        )
        progress.best_epoch, progress.best_top1, progress.best_cost = 0, 0.0, math.inf


def train_epoch(run: Run, watch: SignalWatch) -> None:
    """Train what is left of the running epoch."""
    progress, hooks, steps = run.progress, run.hooks, len(run.train)
    if progress.trained:
        return
    if progress.step == 0 and hooks.before_epoch is not None:
        hooks.before_epoch(progress.epoch, run.model)
        run.devices.share_buffers(run.model)
    hooks.train_mode(run.model)
    meter = _Meter(run)
    batches = run.train.epoch(progress.epoch, first_step=progress.step) if progress.step < steps else ()
    for images_NCHW, labels_N in batches:
        samples = run.train.global_size(progress.step)
        train_step(run, images_NCHW, labels_N, samples)
        progress.step += 1
        progress.samples += samples
        run.steps_since_save += 1
        if progress.step % run.options.print_freq == 0 or progress.step == steps:
            run.check_finite()
            report = meter.report()
            run.reporter.step(report)
            if run.board is not None:
                run.board.step(report, progress.samples)
        poll(run, watch, save=run.save_is_due())
    if hooks.after_epoch is not None:
        hooks.after_epoch(progress.epoch, run.model, run.is_save_epoch())
    progress.trained = True


def train_step(run: Run, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> None:
    """Do one optimizer step. In here nothing waits for a GPU, plain or through a scheme."""
    options, devices, hooks, progress = run.options, run.devices, run.hooks, run.progress
    torch.manual_seed(step_seed(options.seed, progress, devices.rank))  # dropout is a function of the place, too
    set_lr(run.optimizer, lr_at(options, progress.epoch * len(run.train) + progress.step, len(run.train)))
    run.tally.at(progress.step)
    run.step(images_NCHW, labels_N, global_samples)
    if run.average is not None:
        run.average.update()
    if hooks.after_step is not None:
        hooks.after_step(run.model)


def test_epoch(run: Run, watch: SignalWatch) -> Scores:
    """Test the network after an epoch, in the form it is kept in; then log and save, and count the epoch as done.

    Weights and files are float32, and people test them so: scores in half precision would be of something else.
    """
    progress, options = run.progress, run.options
    with run.averaged(), run.hooks.validated(run.model):
        scores = evaluate(
            run.model,
            run.test,
            run.devices,
            reporter=run.reporter,
            poll=lambda: poll(run, watch, save=False),
            in_float32=True,
        )
    trained = run.tally.read()
    names = [f"ckpt_epoch_{progress.epoch + 1}.pth"] if run.is_save_epoch() else []
    bits = run.hooks.bits(run.model) if run.hooks.bits is not None else 0.0
    before = progress.best_epoch, progress.best_top1, progress.best_cost
    if run.is_best(scores, bits):
        names.append(files.BEST)
    run.tick()
    report = EpochReport(
        epoch=progress.epoch + 1,
        epochs=options.epochs,
        lr=float(run.optimizer.param_groups[0]["lr"]),
        train_loss=trained.loss,
        train_top1=trained.top1,
        test_loss=scores.loss,
        test_top1=scores.top1,
        test_top5=scores.top5,
        best_top1=progress.best_top1,
        epoch_seconds=progress.epoch_seconds,
        total_seconds=progress.seconds,
        bits=bits,
        best_epoch=progress.best_epoch,
    )
    progress.epoch, progress.step, progress.trained, progress.epoch_seconds = progress.epoch + 1, 0, False, 0.0
    run.tally.reset()
    _log(run, report)  # before saving: a row too many is dropped on resume, a missing one would be lost
    run.save([*names, files.LAST])
    if files.BEST in run.unsaved and files.BEST in names:  # the best that there is a file of is still the one before
        progress.best_epoch, progress.best_top1, progress.best_cost = before
    run.reporter.epoch_end(report)
    return scores


def poll(run: Run, watch: SignalWatch, *, save: bool) -> None:
    """Between two steps: save if any process finds it is time, stop if any process got a signal.

    Raises:
        StopRequested: in every process, at the same step.
    """
    wish = run.devices.highest(watch.received or (SAVE if save else 0))
    if wish == SAVE:
        run.save([files.LAST])
    elif wish:
        raise StopRequested(wish)


def step_seed(seed: int, progress: Position, rank: int) -> int:
    """Return the seed of what is drawn within one step in one process: different for each, the same on resume."""
    mixed = seed
    for part in (progress.epoch, progress.step, rank):
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**64  # Knuth's MMIX generator
    return mixed >> 1


def _log(run: Run, report: EpochReport) -> None:
    if run.board is not None:
        run.board.epoch(report, run.progress.samples)
    if run.devices.is_main:
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            run.csv.append(report)
        except OSError as error:
            run.reporter.message(f"could not write {run.csv.path}: {error}; training goes on", "warning")


def _announce(run: Run, resumed: Mapping[str, Any] | None) -> None:
    progress, options = run.progress, run.options
    facts: dict[str, object] = {
        "parameters": f"{sum(p.numel() for p in run.model.parameters()):,}",
        "devices": str(run.devices),
        "batch": f"{options.batch_size}, {len(run.train)} steps an epoch",
        "epochs": options.epochs,
        "checkpoints": run.folder,
    }
    if resumed is not None:
        facts["resumed"] = f"after {progress.epoch} epochs and {progress.step} steps, best {progress.best_top1:.2f}%"
    if run.captures:
        facts["steps"] = "captured in a CUDA graph after the first (--eager: not)"
    run.reporter.start(facts)
    if resumed is None:
        return
    for change in options.changes(resumed["options"]):
        run.reporter.message(change)
    before = resumed.get("devices", str(run.devices))
    if before != str(run.devices):
        run.reporter.message(f"on {run.devices} now, before on {before}: the same samples, not to the bit the same run")


class _Meter:
    """Speed since the last report, and the time left at the speed of this epoch so far."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._first = run.progress.step
        self._start = self._before = time.perf_counter()
        self._samples = run.progress.samples

    def report(self) -> StepReport:
        run, progress, now = self._run, self._run.progress, time.perf_counter()
        steps, scores = len(run.train), run.tally.read()
        left = (run.options.epochs - progress.epoch) * steps - progress.step
        speed = (progress.samples - self._samples) / max(1e-9, now - self._before)
        pace = (now - self._start) / max(1, progress.step - self._first)
        self._before, self._samples = now, progress.samples
        lr = float(run.optimizer.param_groups[0]["lr"])
        return StepReport(
            progress.epoch + 1, progress.step, steps, scores.loss, scores.top1, scores.top5, speed, lr, pace * left
        )
