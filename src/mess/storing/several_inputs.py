"""Networks of several inputs, looked at as networks of one: inputs lie side by side in one tensor.

::

    (a, b), labels ── join ──► one tensor (N, numbers of a and b), labels ──► hook: a, b ──► forward(a, b)

All that looks at a network mixes, counts and batches inputs; of one tensor that is said once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from mess.errors import DataError
from mess.storing.options import Request

EXACT = 1 << 24  # up to which float32 has all whole numbers
Kind = tuple[tuple[int, ...], torch.dtype]  # of one input: its shape without the batch


def needed_inputs(module: nn.Module) -> list[str]:
    """Return the names of the inputs that a network does not do without; none where it does not say."""
    try:
        taken = list(signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return []
    return [p.name for p in taken if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def with_one_input(module: nn.Module, request: Request) -> Request:
    """Return the request with inputs that lie side by side, where batches have several; `module` then takes such.

    Several inputs are a tuple in the place of the inputs, ``((a, b), labels)``, or as many tensors as the network does
    not do without: ``(a, b)``, ``(a, b, labels)``. In all other batches the second tensor is labels.

    Raises:
        DataError: inputs that are no tensors of numbers, of one length, or of other shapes than those before.
    """
    needed = len(needed_inputs(module))
    kinds: list[Kind] = []
    found: dict[str, Any] = {}
    for name in ("calibration", "validation"):
        given = getattr(request, name)
        if given is None or isinstance(given, Tensor) or not isinstance(given, Iterable):
            continue
        batches = iter(given)
        first = list(islice(batches, 1))  # the rest of an iterator is not had twice
        found[name] = chain(first, batches)
        if first and (parted := _parted(first[0], needed)) is not None:
            kinds = kinds or _kinds(parted[0])
            found[name] = _joined(found[name], needed, kinds)
    if kinds:
        module.register_forward_pre_hook(partial(_apart, kinds), prepend=True)  # hooks of its own see its inputs
    return replace(request, **found)


def _parted(batch: Any, needed: int) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Return several inputs and what is behind them; None: there is one."""
    if not isinstance(batch, tuple | list) or not batch:
        return None
    if isinstance(batch[0], tuple | list):
        return batch[0], batch[1:]
    if needed > 1 and len(batch) >= needed and all(isinstance(part, Tensor) for part in batch[:needed]):
        return batch[:needed], batch[needed:]
    return None


def _kinds(inputs: Sequence[Any]) -> list[Kind]:
    good = all(isinstance(x, Tensor) and x.dim() and not x.is_complex() and len(x) == len(inputs[0]) for x in inputs)
    if not good or not inputs:
        kinds = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in inputs)
        raise DataError("calibration", "several inputs as tensors of numbers, of one length", f"({kinds})")
    return [(tuple(x.shape[1:]), x.dtype) for x in inputs]


def _joined(batches: Iterable[Any], needed: int, kinds: list[Kind]) -> Iterator[tuple[Tensor, ...]]:
    for batch in batches:
        parted = _parted(batch, needed)
        found = None if parted is None else _kinds(parted[0])
        if parted is None or found != kinds:
            shapes = "one input" if found is None else [shape for shape, _ in found]
            raise DataError("calibration", f"inputs of {[shape for shape, _ in kinds]}, as before", shapes)
        inputs, rest = parted
        for x in inputs:
            if not x.is_floating_point() and x.numel() and int(x.abs().max()) > EXACT:
                raise DataError("calibration", f"whole numbers up to {EXACT:,}", int(x.abs().max()))
        yield (torch.cat([x.detach().cpu().float().reshape(len(x), -1) for x in inputs], 1), *rest)


def _apart(kinds: list[Kind], _module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the inputs that lie side by side; whole numbers are whole again, also in a mixture of two."""
    (side_by_side,) = given
    sizes = [torch.Size(shape).numel() for shape, _ in kinds]
    parts = side_by_side.split(sizes, 1)
    return tuple(
        x.reshape(len(x), *shape) if dtype.is_floating_point else x.detach().round().to(dtype).reshape(len(x), *shape)
        for x, (shape, dtype) in zip(parts, kinds, strict=True)
    )
