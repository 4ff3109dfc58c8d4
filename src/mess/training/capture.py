"""The training step as one CUDA graph: what it launches is recorded once and then replayed, without Python in between.

::

    steps 1 … 3 of a shape   eager, on a stream of their own          (they are ordinary steps of the run)
    then, once               recorded ──► replayed beside an eager step, from the same state ──► do they agree?
    from there on            copy the batch in, replay                batches of another shape: eager

A network's small operations take a GPU less time than Python takes to ask for them. What is replayed has frozen
everything but what its tensors hold. So a step that waits for the GPU, cannot be recorded, or ends elsewhere than an
eager one, is done eagerly to the end of the run, and that is said once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mess.training.step import Step

if TYPE_CHECKING:
    from mess.training.run import Run

WARM_UP = 3  # eager steps ahead of recording: libraries choose kernels, the optimizer makes its state
# How far from an eager step a replayed one may end, as a share of the way: kernels that add up in no fixed order differ
# by a thousandth or less, a learning rate or a batch that stayed behind by a third or more.
TOLERANCE = {"32": 0.05, "bf16": 0.1, "16": 0.1}

Kind = tuple[torch.Size, torch.Size, int]


class CapturedStep:
    """Does what `step` does. With fp16 the optimizer's step stays outside, as the loss scaler may leave it out.

    Attributes:
        replayed: steps that were replayed.
    """

    def __init__(self, run: Run, step: Step) -> None:
        self.run, self.step, self.replayed = run, step, 0
        self._whole = not run.devices.scaler_state()
        self._seen: Counter[Kind] = Counter()
        self._kind: Kind | None = None  # of the batches that are replayed
        self._images_NCHW = self._labels_N = torch.empty(0)
        self._replay_graph: Callable[[], None] | None = None
        self._gradients: list[Tensor | None] = []
        self._given_up = False

    def __call__(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> None:
        """Do the whole step."""
        kind = (images_NCHW.shape, labels_N.shape, global_samples)
        if not self._given_up and self._kind is None:
            self._seen[kind] += 1
            if self._seen[kind] <= WARM_UP:
                self._warm_up(images_NCHW, labels_N, global_samples, last=self._seen[kind] == WARM_UP)
                return
            self._capture(images_NCHW, labels_N, global_samples)
        if kind == self._kind:
            self.replay(images_NCHW, labels_N)
        else:
            self.step(images_NCHW, labels_N, global_samples)

    def replay(self, images_NCHW: Tensor, labels_N: Tensor) -> None:
        """Do the whole step, without Python but for what starts it."""
        assert self._replay_graph is not None
        self._images_NCHW.copy_(images_NCHW)
        self._labels_N.copy_(labels_N)
        self._replay_graph()
        if not self._whole:
            for parameter, gradient in zip(self.run.model.parameters(), self._gradients, strict=True):
                parameter.grad = gradient  # an eager step in between has put its own there
            self.run.stepper.step()
        self.replayed += 1

    def _warm_up(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int, *, last: bool) -> None:
        devices = self.run.devices
        with devices.apart():
            if not last:
                self.step(images_NCHW, labels_N, global_samples)
                return
            with devices.waits() as waits:
                self.step.gradients(images_NCHW, labels_N, global_samples)
                if self._whole:
                    self.run.stepper.step()
            if not self._whole:
                self.run.stepper.step()
        if waits:  # such a step cannot be recorded, and a recording that fails leaves much to put right
            self._give_up(f"it waits for the GPU ({waits[0]})")

    def _capture(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> None:
        seed = torch.initial_seed()
        self._images_NCHW, self._labels_N = images_NCHW.clone(), labels_N.clone()
        recorded = self.step if self._whole else self.step.gradients
        try:
            self._replay_graph = self.run.devices.record(
                lambda: recorded(self._images_NCHW, self._labels_N, global_samples)
            )
        except RuntimeError as error:
            self._give_up(f"it cannot be recorded ({str(error).splitlines()[0]})")
            torch.manual_seed(seed)
            return
        self._gradients = [parameter.grad for parameter in self.run.model.parameters()]
        apart = self._difference(images_NCHW, labels_N, global_samples)
        allowed = 0.0 if self.run.options.deterministic else TOLERANCE[self.run.options.precision]
        if not apart <= allowed:
            self._give_up(f"replayed, it ends {apart:.1%} of its way from where an eager one does")
            return
        self._kind = (images_NCHW.shape, labels_N.shape, global_samples)

    def _give_up(self, reason: str) -> None:
        self._given_up, self._replay_graph = True, None
        self.run.reporter.message(f"steps are not captured in a CUDA graph, and slower for it: {reason}", "warning")

    @torch.no_grad()
    def _difference(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> float:
        """Return how far a replayed step ends from an eager one, as a share of how far that one goes.

        Both are taken back. They are taken at twice the learning rate: one that stayed behind would be seen.
        """
        devices, optimizer, seed = self.run.devices, self.run.optimizer, torch.initial_seed()
        state, scaler = self._state(), devices.scaler_state()
        before = [[tensor.clone() for tensor in part] for part in state]
        _scale_lr(optimizer, 2.0)
        ends = []
        for replayed in (True, False):
            torch.manual_seed(seed)
            with torch.enable_grad():
                if replayed:
                    self.replay(images_NCHW, labels_N)
                else:
                    self.step(images_NCHW, labels_N, global_samples)
            ends.append([[tensor.clone() for tensor in part] for part in state])
            for part, kept in zip(state, before, strict=True):
                for tensor, value in zip(part, kept, strict=True):
                    tensor.copy_(value)
            devices.load_scaler_state(scaler)
        _scale_lr(optimizer, 0.5)
        torch.manual_seed(seed)
        self.replayed -= 1
        return max(_share(*parts) for parts in zip(*ends, before, strict=True))

    def _state(self) -> list[list[Tensor]]:
        """Return all tensors that a step changes."""
        run = self.run
        kept = [x for state in run.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
        parameters = [parameter.detach() for parameter in run.model.parameters()]
        return [parameters, list(run.model.buffers()), kept, run.tally.tensors()]


def _scale_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"].mul_(factor)


def _share(found: Sequence[Tensor], expected: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """Return ‖found − expected‖ / ‖expected − before‖, 0 where both are equal to the bit."""
    if all(map(torch.equal, found, expected)):
        return 0.0
    apart, way = (math.hypot(*map(_gap, *pair)) for pair in ((found, expected), (expected, before)))
    return apart / way if way else math.inf


def _gap(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())  # ∞ − ∞ is no number
    return float((a - b).masked_fill(same, 0).norm())
