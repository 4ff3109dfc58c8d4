"""Forward passes that wait before each layer: what has run once need not run again for the next layer.

Rounding looks at what a layer sees once all layers before it are settled. Run anew for each layer, that costs a network
of L layers about L/2 forward passes over all inputs. Here a pass goes on from where it waits, and all layers cost one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Event
from types import TracebackType

import torch
from torch import Tensor, nn

from mess.scheme.learned.calls import Call, Watch
from mess.scheme.learned.layers import WeightLayer

StageProgress = Callable[[str, int, int], None]  # what is being done, done so far, in all (0: not known)
BATCH = 64  # inputs a pass of a small image
BATCH_NUMBERS = 5 << 17  # input numbers a pass at most: fewer inputs where they are large
WAITING_BYTES = 1 << 28  # that waiting passes of a network may keep; others are run anew when they are needed
KEPT_A_BYTE = (
    4  # what a waiting pass keeps for each byte of the input that it shows: what goes round the layer, buffers
)


def no_progress(what: str, done: int, total: int) -> None:
    """Be a `StageProgress` that does nothing."""


class _LeftError(Exception):
    """Ends a pass that nobody waits for any more."""


class _Pass:
    """One forward pass, in a thread of its own that runs only while somebody waits for it."""

    def __init__(self, pool: ThreadPoolExecutor, model: nn.Module, batch: Tensor, watch: Watch) -> None:
        self.at: str | None = None  # the layer it waits before; None: it has not begun, or has ended
        self.seen: Call | None = None
        self._go, self._left, self._ended = Event(), False, False
        self._news: SimpleQueue[bool] = SimpleQueue()  # True: it waits, False: it has ended
        self._future: Future[None] = pool.submit(self._run, model, batch, watch)
        self._future.add_done_callback(lambda _: self._news.put(False))

    def advance(self) -> bool:
        """Go on to the next layer; return False where it ended instead. Raises what the network raises."""
        self.at, self.seen = None, None
        self._go.set()
        self._ended = not self._news.get()
        if self._ended:
            self._future.result()
        return not self._ended

    def wait(self, name: str, call: Call) -> None:
        """Hold the pass before a layer; its own thread calls this."""
        self._go.clear()
        self.at, self.seen = name, call
        self._news.put(True)
        self._go.wait()
        if self._left:
            raise _LeftError

    def leave(self) -> None:
        """End the pass where it is."""
        self._left, self.seen = True, None
        while not self._ended:
            self._go.set()
            self._ended = not self._news.get()

    def _run(self, model: nn.Module, batch: Tensor, watch: Watch) -> None:
        self._go.wait()
        if not self._left:
            with torch.inference_mode(), suppress(_LeftError), watch:
                model(batch)


class LayerwiseForward:
    """What the layers of a network see, batch by batch, while one after the other gets the weights it is to keep.

    Args:
        model: in eval mode; weights of `layers` may change between calls of `inputs`, until they are settled.
        layers: those that will be asked for.
        batches: the inputs.
    """

    def __init__(self, model: nn.Module, layers: list[WeightLayer], batches: list[Tensor]) -> None:
        self._model, self.batches = model, batches
        self._calls = {layer.name: layer.calls for layer in layers}
        self._names = {id(layer.weight): layer.name for layer in layers}
        self._settled: set[str] = set()
        self._waiting: dict[int, _Pass] = {}
        self._running: _Pass | None = None
        self._pool = ThreadPoolExecutor(len(batches) + 1, thread_name_prefix="pass")

    def __enter__(self) -> LayerwiseForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for going in (*self._waiting.values(), *([self._running] if self._running else [])):
            going.leave()
        self._pool.shutdown()

    def settle(self, name: str) -> None:
        """Say that a layer has the weights it is to keep: passes may go beyond it."""
        self._settled.add(name)

    def calls(self, place: int, name: str) -> list[Call]:
        """Return the products that a layer which is not settled takes part in, in the pass over one batch."""
        going = self._waiting.pop(place, None) or self._begun(place)
        self._running = going
        while going.at is None or going.at in self._settled:
            if not going.advance():
                break
        self._running = None
        alone = going.at == name and self._calls[name] == 1
        found = [going.seen] if alone and going.seen is not None else self._anew(place, name)
        if going.at is not None:
            self._keep(place, going)
        return found

    def _begun(self, place: int) -> _Pass:
        return _Pass(self._pool, self._model, self.batches[place], Watch(self._names, before=self._before))

    def _keep(self, place: int, going: _Pass) -> None:
        kept = sum(_bytes(waiting) for waiting in self._waiting.values())
        if KEPT_A_BYTE * (kept + _bytes(going)) <= WAITING_BYTES:
            self._waiting[place] = going
        else:
            going.leave()

    def _anew(self, place: int, name: str) -> list[Call]:
        """Run from the start: for layers that run several times, or in another order than they are asked for."""
        found: list[Call] = []

        def note(seen: str, call: Call) -> None:
            if seen == name:
                found.append(call)
                if len(found) == self._calls[name]:
                    raise _LeftError

        with torch.inference_mode(), suppress(_LeftError), Watch(self._names, before=note):
            self._model(self.batches[place])
        return found

    def _before(self, name: str, call: Call) -> None:
        if self._running is not None and name not in self._settled:
            self._running.wait(name, call)


def in_fast_layout(model: nn.Module) -> nn.Module:
    """Return a network with channels last, which runs a third faster, where its weights have the dimensions for it."""
    if any(parameter.dim() > 4 for parameter in model.parameters()):
        return model
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def split_batches(inputs: Tensor) -> list[Tensor]:
    """Return inputs in the pieces that a network is looked at with, of a size that memory bears."""
    return list(inputs.split(max(1, min(BATCH, BATCH_NUMBERS // max(1, inputs[0].numel())))))


def _bytes(waiting: _Pass) -> int:
    return waiting.seen.input.nbytes if waiting.seen is not None else 0
