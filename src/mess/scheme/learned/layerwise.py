"""Forward passes that wait before each layer: what has run once need not run again for the next layer.

Rounding looks at what a layer sees once all layers before it are settled. Run anew for each layer, that costs a network
of L layers about L/2 forward passes over all inputs. Here a pass goes on from where it waits, and all layers cost one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import torch
from torch import Tensor, nn

from mess.scheme.learned.calls import Call, Watch
from mess.scheme.learned.layers import WeightLayer
from mess.scheme.learned.passes import ForwardPass, NotRepeatedError, StopPassError

StageProgress = Callable[[str, int, int], None]
"""Hears how far work has come: what is being done, how much of it is done, and how much there is (0: not known)."""
BATCH = 64  # inputs a pass of a small image
BATCH_NUMBERS = 5 << 17  # input numbers a pass at most: fewer inputs where they are large
TOGETHER, MAX_TOGETHER = 4, 64  # batches, and inputs, that go at once on a GPU: none more where inputs are small
# that waiting passes of a network may keep, on the CPU and elsewhere; others are run anew when they are needed
WAITING_BYTES, LARGE_WAITING_BYTES = 1 << 28, 1 << 30


def no_progress(what: str, done: int, total: int) -> None:
    """Be a `StageProgress` that does nothing."""


class LayerwiseForward:
    """What the layers of a network see, batch by batch, while one after the other gets the weights it is to keep.

    Args:
        model: in eval mode; weights of `layers` may change between calls of `inputs`, until they are settled.
        layers: those that will be asked for.
        batches: the inputs; each moves to where the network is when its turn comes.
    """

    def __init__(self, model: nn.Module, layers: list[WeightLayer], batches: list[Tensor]) -> None:
        self._model, self.batches, self._device = model, batches, device_of(model)
        self._bearable = WAITING_BYTES if self._device.type == "cpu" else LARGE_WAITING_BYTES
        self._calls = {layer.name: layer.calls for layer in layers}
        self._names = {id(layer.weight): layer.name for layer in layers}
        self._settled: set[str] = set()
        self._waiting: dict[int, ForwardPass] = {}
        self._repeats = True  # until the network shows that it does not

    def settle(self, name: str) -> None:
        """Say that a layer has the weights it is to keep: passes may go beyond it."""
        self._settled.add(name)

    def calls(self, place: int, name: str) -> list[Call]:
        """Return the products that a layer which is not settled takes part in, in the pass over one batch."""
        going = self._waiting.pop(place, None)
        if going is None:
            going = ForwardPass(self._model, self.batches[place].to(self._device), self._names, self._settled)
        try:
            while self._repeats and (going.at is None or going.at in self._settled):
                if not going.advance():
                    break
        except NotRepeatedError:
            self._repeats = False
            self._waiting.clear()
        if not self._repeats:
            return self._anew(place, name)
        alone = going.at == name and self._calls[name] == 1
        found = [going.seen] if alone and going.seen is not None else self._anew(place, name)
        if going.at is not None:
            self._keep(place, going)
        return found

    def _keep(self, place: int, going: ForwardPass) -> None:
        kept = sum(waiting.nbytes for waiting in self._waiting.values())
        if kept + going.nbytes <= self._bearable:
            self._waiting[place] = going

    def _anew(self, place: int, name: str) -> list[Call]:
        """Run from the start: for layers that run several times, or in another order than they are asked for."""
        found: list[Call] = []

        def note(seen: str, call: Call) -> None:
            if seen == name:
                found.append(call)
                if len(found) == self._calls[name]:
                    raise StopPassError

        with torch.inference_mode(), suppress(StopPassError), Watch(self._names, before=note):
            self._model(self.batches[place].to(self._device))
        return found


def fast_layout(model: nn.Module, inputs: Tensor) -> torch.memory_format:
    """Return the order in memory that a network runs fastest in: channels last, by a third, where it runs so at all.

    Weights may have too many dimensions for it, and ``x.view(len(x), -1)`` refuses images whose channels come last.

    Args:
        model: where it is, in eval mode.
        inputs: two or so that it takes.
    """
    if inputs.dim() != 4 or any(parameter.dim() > 4 for parameter in model.parameters()):
        return torch.contiguous_format
    probe = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with suppress(Exception), torch.inference_mode():  # the network may raise anything
        probe(inputs.to(device_of(model)).contiguous(memory_format=torch.channels_last))
        return torch.channels_last
    return torch.contiguous_format


def device_of(model: nn.Module) -> torch.device:
    """Return where a network is: its first tensor, the CPU where it has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def split_batches(inputs: Tensor, device: torch.device | None = None) -> list[Tensor]:
    """Return inputs in the pieces that a network is looked at with, of a size that memory bears.

    Args:
        device: where the network is; None: in the same pieces anywhere, as what comes of them depends on them.
    """
    size = max(1, min(BATCH, BATCH_NUMBERS // max(1, inputs[0].numel())))
    return list(inputs.split(size if device is None else size * batches_at_once(device, size)))


def batches_at_once(device: torch.device, size: int) -> int:
    """Return how many batches go at once: several where starting an operation costs more than its arithmetic."""
    return 1 if device.type == "cpu" else max(1, min(TOGETHER, MAX_TOGETHER // size))
