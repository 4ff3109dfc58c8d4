"""A second device on a machine that has none: its tensors are of another class, and do not mix with the CPU's.

They say that they are on ``cpu:1``, and what is computed with them is computed on the CPU, so results are the CPU's to
the bit. An operation that is given tensors of both places fails as it would on a GPU, unless those of the CPU are
single numbers; so does NumPy.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("cpu", 1)
aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default)


class There(Tensor):
    """A tensor of the second device."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=THERE
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> There:
        return There(inner["here"])

    def numpy(self, **_: Any) -> Any:
        raise TypeError("NumPy takes tensors of the CPU alone")

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.here.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()


class _Makes(TorchFunctionMode):
    """`torch.tensor` asks no dispatcher which of two CPUs is meant."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        moves = func is torch.tensor and kwargs.get("device") == THERE and kwargs.pop("device") is not None
        made = func(*args, **kwargs)
        return made.to(THERE) if moves else made


class SecondDevice(TorchDispatchMode):
    """Within it there is the second device.

    Attributes:
        most_moved: numbers that were moved at once, there or back.
        operations: done there, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most_moved = 0
        self.operations: Counter[str] = Counter()
        self._makes = _Makes()

    def __enter__(self) -> SecondDevice:
        self._makes.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._makes.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = run(func, args, kwargs)
        if any(isinstance(x, There) for x in tree_leaves((args, kwargs, out))):
            self.operations[str(func)] += 1
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            if func in MOVES and not all(isinstance(x, There) for x in given):
                self.most_moved = max(self.most_moved, *(x.numel() for x in given))
        return out


def run(func: Any, args: Any, kwargs: Any) -> Any:
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = any(isinstance(x, There) for x in given)
    named = kwargs.get("device")
    if there and func not in MOVES:
        plain = [tuple(x.shape) for x in given if not isinstance(x, There) and x.dim() > 0]
        assert not plain, f"{func} is given tensors of both devices, of the CPU {plain}"
    if named == THERE:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    goes_there = named == THERE if named is not None else there
    changed = _changed(func, args, kwargs)
    out = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if changed:  # what it changes in place, or writes to, is what it returns
        return changed[0] if not isinstance(out, tuple | list) else type(out)(changed)
    return tree_map(lambda x: There(x) if isinstance(x, Tensor) else x, out) if goes_there else out


def _changed(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    found = []
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        found += [x for x in tree_leaves(value) if isinstance(x, Tensor)] if written else []
    return found if func._schema.returns else []


def _here(x: Any) -> Any:
    return x.here if isinstance(x, There) else x
