"""A moving average of the weights (Polyak averaging), BatchNorm's buffers included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """average ← decay·average + (1 − decay)·weights after every step; integer buffers are simply copied.

    The decay starts low, at (1 + n)/(10 + n) after n steps, so that the random start is soon forgotten
    (the rule of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._pairs = [(tensor.detach().clone(), tensor) for tensor in _tensors(model)]
        real = [pair for pair in self._pairs if pair[0].is_floating_point()]
        self._averages, self._weights = [average for average, _ in real], [tensor for _, tensor in real]
        whole = [pair for pair in self._pairs if not pair[0].is_floating_point()]
        self._own_counts, self._counts = [count for count, _ in whole], [tensor for _, tensor in whole]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averages, self._weights, weight)  # all in a few launches on a GPU
        if self._counts:
            torch._foreach_copy_(self._own_counts, self._counts)

    def tensors(self) -> list[Tensor]:
        """Return the averages themselves, in the order of the model's parameters and buffers."""
        return [average for average, _ in self._pairs]

    @torch.no_grad()
    def take(self, steps: int, tensors: list[Tensor] | None = None) -> None:
        """Go on `steps` steps into the average: from what `tensors` gave, or from the weights the model has now.

        Raises:
            ValueError: averages of another model.
        """
        self.steps = steps
        for (average, _), saved in zip(self._pairs, tensors or [own for _, own in self._pairs], strict=True):
            average.copy_(saved)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights for the length of a ``with`` block; then its own again, to the bit."""
        with torch.no_grad():
            own = [tensor.detach().clone() for _, tensor in self._pairs]
            for average, tensor in self._pairs:
                tensor.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for kept, (_, tensor) in zip(own, self._pairs, strict=True):
                    tensor.copy_(kept)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
