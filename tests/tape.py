"""What a CUDA graph is to a GPU, on the CPU: operations recorded once, with all but their tensors frozen, and replayed.

A number of Python's, a branch, a tensor that is another one the next time: whatever a graph would not follow, the tape
does not follow either. An operation whose result Python looks at cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mess.devices import Devices

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default,
    aten.bincount.default, aten.masked_select.default, aten._unique2.default, aten._linalg_svd.default,
    aten.repeat_interleave.Tensor,
}  # fmt: skip


class NoWaits(TorchDispatchMode):
    """Raises where a GPU would be waited for, or notes it."""

    def __init__(self, noted: list[str] | None = None) -> None:
        super().__init__()
        self.noted = noted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            if self.noted is None:
                raise RuntimeError(f"{func} waits for the device")
            self.noted.append(str(func))
        return func(*args, **(kwargs or {}))


class Tape(TorchDispatchMode):
    """Records the operations within a ``with`` block."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.storages: dict[int, tuple[Any, Any]] = {}  # that were there before: as they are and as they were
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            raise RuntimeError(f"{func} waits for the device")
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self.made and storage._cdata not in self.storages:
                self.storages[storage._cdata] = (storage, storage.clone())
        out = func(*args, **kwargs)
        self.made |= {s._cdata for s in _storages(out)} - set(self.storages)
        self.calls.append((func, args, kwargs, out))
        return out

    def take_back(self) -> None:
        for storage, kept in self.storages.values():
            storage.copy_(kept)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            anew = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(anew), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                    old.copy_(new)


def _storages(nested: Any) -> Iterator[Any]:
    for leaf in tree_leaves(nested):
        if isinstance(leaf, Tensor):
            yield leaf.untyped_storage()


class TapeDevices(Devices):
    """A CPU process whose steps are captured, on a tape; `replays` counts them."""

    captures = True

    def __init__(self, precision: str = "32") -> None:
        super().__init__(precision)
        self.replays = 0

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        noted: list[str] = []
        with NoWaits(noted):
            yield noted

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        tape = Tape()
        try:
            with tape:
                function()
        finally:
            tape.take_back()
        return self.counted(tape.replay)

    def counted(self, replay: Callable[[], object]) -> Callable[[], None]:
        def again() -> None:
            self.replays += 1
            replay()

        return again


class AgainDevices(TapeDevices):
    """One whose captured steps are done by Python again: what a tape has to agree with to the bit."""

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        return self.counted(function)
