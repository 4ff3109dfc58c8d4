"""A forward pass that stops before a layer and goes on from there later, without a thread of its own.

Python cannot go back into the middle of a `forward`. So the pass starts again from the first line, but functions of
torch that have run before do not run: they return what they returned then. Of that only the tensors are kept which the
network still held when the pass stopped, as a pass in a thread would; nothing reads the others any more, and tensors of
the same shape without contents (on the meta device) stand for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Set
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mess.scheme.learned.calls import Call, product

One = TypeVar("One")


class StopPassError(BaseException):
    """Ends a pass before its end; no error, so no network catches it with its `except Exception`."""


class NotRepeatedError(BaseException):
    """Ends the pass of a network that does other things when it runs again, or things that cannot be seen here."""


class ForwardPass(TorchFunctionMode):
    """One pass over one batch.

    Args:
        model: in eval mode; must be left as it is but for weights of layers that the pass has not come to.
        names: of weights, by `id`.
        settled: names of weights that the pass does not stop at; may grow.

    Attributes:
        at: the layer that the pass waits before; None: it has not begun, or has ended.
        seen: the product that this layer is about to compute.
        nbytes: of memory that the pass holds while it waits.
    """

    def __init__(self, model: nn.Module, batch: Tensor, names: Mapping[int, str], settled: Set[str]) -> None:
        super().__init__()
        self.at: str | None = None
        self.seen: Call | None = None
        self.nbytes = 0
        self._model, self._batch, self._names, self._settled = model, batch, names, settled
        self._returned: list[tuple[Any, Any]] = []  # by the functions that have run, in their order
        self._place = self._known = 0

    def advance(self) -> bool:
        """Go on to the next layer that is not settled; return False where the pass ended instead.

        Raises:
            NotRepeatedError: a network that is not the same each time it runs.
            Exception: whatever the network raises.
        """
        self.at, self.seen = None, None
        self._place, self._known = 0, len(self._returned)
        try:
            with torch.inference_mode(), self:
                self._model(self._batch)
        except StopPassError:
            return True
        except Exception as error:
            if self._known:  # run from the start it may do well
                raise NotRepeatedError from error
            raise
        self._returned.clear()
        return False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        place, self._place = self._place, self._place + 1
        if place < self._known:
            known, result = self._returned[place]
            if known != func:  # not "is": getters of attributes are new objects each time
                raise NotRepeatedError
            return result.let_go() if type(result) is _Kept else _mapped(result, _Kept, _Kept.let_go)
        kwargs = kwargs or {}
        if any(x.is_meta for x in _found((args, list(kwargs.values())), Tensor)):
            raise NotRepeatedError
        found = product(func, args, kwargs, self._names)
        if found is not None and found[0] not in self._settled:
            self.at, self.seen = found
            self._hold()
            raise StopPassError
        result = func(*args, **kwargs)
        self._returned.append((func, _mapped(result, Tensor, _Kept)))
        return result

    def _hold(self) -> None:
        """Hold what the network holds at this moment."""
        storages = {}
        for _, result in self._returned:
            for one in _found(result, _Kept):
                if (tensor := one.hold()) is not None and not tensor.is_meta:
                    storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        self.nbytes = sum(storages.values())


class _Kept:
    """A tensor that the network holds or has dropped: this holds it only while the pass waits."""

    __slots__ = ("_kind", "_tensor", "held")

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = weakref.ref(tensor)
        self._kind = tensor.shape, tensor.dtype
        self.held: Tensor | None = None

    def hold(self) -> Tensor | None:
        self.held = self._tensor()
        return self.held

    def let_go(self) -> Tensor:
        tensor, self.held = self.held, None
        return tensor if tensor is not None else torch.empty(self._kind[0], dtype=self._kind[1], device="meta")


def _mapped(result: Any, kind: type, change: Any) -> Any:
    """Return what a function returned, with all of one kind changed, also in tuples and lists."""
    if isinstance(result, kind):
        return change(result)
    if isinstance(result, tuple | list) and type(result) is not torch.Size:
        parts = [_mapped(part, kind, change) for part in result]
        return type(result)._make(parts) if hasattr(result, "_make") else type(result)(parts)
    return result


def _found(values: Any, kind: type[One]) -> Iterator[One]:
    """Yield all of one kind, also in tuples and lists."""
    if isinstance(values, kind):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _found(value, kind)
