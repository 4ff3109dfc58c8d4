"""Scores of a network: every sample counted once, on however many devices; no device is waited for within a pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mess.devices import Devices
from mess.training.log import Reporter
from mess.training.losses import summed_cross_entropy
from mess.training.modes import in_eval_mode

TOP = 5


class BatchSource(Protocol):
    """What training asks of `mess.data.Batches`."""

    def __len__(self) -> int:
        """Steps an epoch, the same in every process."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each global batch from `first_step` on: images_NCHW float32, labels_N int64.

        In training there may be more images than labels: they are seen by BatchNorm alone.
        """

    def global_size(self, step: int) -> int:
        """Return the number of samples in the global batch at `step`."""


@dataclass(frozen=True)
class Scores:
    """loss in nats a sample, top1 and top5 in percent, over `samples`, in `seconds`."""

    loss: float
    top1: float
    top5: float
    samples: int
    seconds: float = 0.0


class Tally:
    """Sums of loss, hits and samples, kept on the device so that no step waits for it; read now and then."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._sums = torch.zeros(4, dtype=torch.float64, device=devices.device)
        self._first_bad = torch.full((), torch.inf, dtype=torch.float64, device=devices.device)
        self._step = torch.zeros((), dtype=torch.float64, device=devices.device)

    def at(self, step: int) -> None:
        """Say which step is counted next: it is named should its loss not be finite."""
        self._step.fill_(step)

    def reset(self) -> None:
        """Begin anew, with the very same tensors."""
        self._sums.zero_()
        self._first_bad.fill_(torch.inf)

    def tensors(self) -> list[Tensor]:
        """Return what `add` changes."""
        return [self._sums, self._first_bad]

    @torch.no_grad()
    def add(self, logits_NC: Tensor, labels_N: Tensor, loss_sum: Tensor) -> None:
        """Count one batch; `loss_sum` is its summed loss."""
        classes = logits_NC.shape[1]
        hits_NK = logits_NC.topk(min(TOP, classes), dim=1).indices == labels_N[:, None]
        samples = torch.full((), len(labels_N), dtype=torch.float64, device=loss_sum.device)
        self._sums += torch.stack([loss_sum.double(), hits_NK[:, 0].sum().double(), hits_NK.sum().double(), samples])
        self._first_bad.copy_(torch.where(loss_sum.isfinite(), self._first_bad, self._first_bad.minimum(self._step)))

    def read(self) -> Scores:
        """Return the scores so far, of all processes; this one call waits for the device."""
        loss, top1, top5, samples = self._devices.sum(self._sums).tolist()
        n = max(1.0, samples)
        return Scores(loss / n, 100 * top1 / n, 100 * top5 / n, int(samples))

    def first_bad_step(self) -> int | None:
        """Return the first step whose loss was not finite, in any process."""
        first = float(self._devices.minimum(self._first_bad))
        return None if first == torch.inf else int(first)

    def sums(self) -> list[float]:
        """Return the sums of all processes as plain numbers, for a checkpoint."""
        return self._devices.sum(self._sums).tolist()

    def take(self, sums: list[float]) -> None:
        """Go on from `sums` of an interrupted epoch; they are counted once, in the first process."""
        if self._devices.is_main:
            self._sums += torch.tensor(sums, dtype=torch.float64, device=self._sums.device)


@torch.no_grad()  # not inference_mode: what a network keeps from a test must stay usable in training
def evaluate(
    model: nn.Module,
    batches: BatchSource,
    devices: Devices,
    *,
    reporter: Reporter | None = None,
    poll: Callable[[], None] | None = None,
    in_float32: bool = False,
) -> Scores:
    """Test `model` on all of `batches`.

    Args:
        model: already on the device; each module is left in the mode, training or not, in which it came.
        batches: this process's parts; a part may be empty.
        devices: the processes among which the samples are spread.
        reporter: told how far the test has come.
        poll: called after each batch in every process; may raise to stop.
        in_float32: whatever precision the devices were opened with.
    """
    start = time.perf_counter()
    tally = Tally(devices)
    devices.share_buffers(model)
    parts = iter(batches.epoch(0))
    with in_eval_mode(model):
        for step in range(len(batches)):
            images_NCHW, labels_N = next(parts, (None, None))
            if images_NCHW is not None and labels_N is not None and len(labels_N):
                with nullcontext() if in_float32 else devices.autocast():
                    logits_NC = model(images_NCHW).float()
                tally.add(logits_NC, labels_N, summed_cross_entropy(logits_NC, labels_N))
            if poll is not None:
                poll()
            if reporter is not None and devices.is_main:
                reporter.eval_step(step + 1, len(batches))
    scores = tally.read()
    return Scores(scores.loss, scores.top1, scores.top5, scores.samples, time.perf_counter() - start)
