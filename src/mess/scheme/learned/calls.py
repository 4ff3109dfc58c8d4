"""Products of inputs and weights, seen where they happen: in the arguments of the operation, whatever module it is in.

A convolution that pads by itself, or one in a module of an unknown class, multiplies like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

CONVOLUTIONS: dict[Any, int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
PARTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Call:
    """One product: a convolution in so many dimensions, or (0) a linear layer.

    Attributes:
        sides: zeros put before and after each dimension, first dimension first.
        bias: whether something is added to the product.
    """

    input: Tensor
    weight: Tensor
    bias: bool = False
    dimensions: int = 0
    stride: tuple[int, ...] = ()
    sides: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @property
    def kernel(self) -> tuple[int, ...]:
        """Size of the window."""
        return tuple(self.weight.shape[2:]) if self.dimensions else ()

    def padded_input(self) -> Tensor:
        """Return the input with a dimension for the batch and the padding around it; (B, C, …) of a convolution."""
        x = self.input
        if x.dim() == self.dimensions + 1:  # a convolution of one input alone
            x = x[None]
        flat = [number for pair in reversed(self.sides) for number in pair]
        return F.pad(x, flat) if any(flat) else x


Before = Callable[[str, Call], None]
After = Callable[[str, Call, Tensor], None]


class Watch(TorchFunctionMode):
    """Within it, tells of each product with one of the weights given.

    Args:
        names: of weights, by `id`.
        before: is told before the product.
        after: is told after it, with what came out.
    """

    def __init__(self, names: Mapping[int, str], before: Before | None = None, after: After | None = None) -> None:
        super().__init__()
        self._names, self._before, self._after = names, before, after

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = product(func, args, kwargs, self._names)
        if found is None:
            return func(*args, **kwargs)
        if self._before is not None:
            self._before(*found)
        output = func(*args, **kwargs)
        if self._after is not None:
            self._after(*found, output)
        return output


def product(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Mapping[int, str]
) -> tuple[str, Call] | None:
    """Return which weight's product a function is about to compute, and that product; None: none of `names`."""
    if func is not F.linear and func not in CONVOLUTIONS:
        return None
    given = dict(zip(PARTS, args, strict=False)) | dict(kwargs)
    name = names.get(id(given.get("weight")))
    return None if name is None else (name, _call(given, CONVOLUTIONS.get(func, 0)))


def _call(given: Mapping[str, Any], dimensions: int) -> Call:
    weight, bias = given["weight"], given.get("bias") is not None
    if not dimensions:
        return Call(given["input"], weight, bias)
    stride, dilation = (_each(given.get(part, 1), dimensions) for part in ("stride", "dilation"))
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = tuple((total // 2, total - total // 2) for total in totals)
    else:
        sides = tuple((p, p) for p in _each(padding, dimensions))
    return Call(given["input"], weight, bias, dimensions, stride, sides, dilation, given.get("groups", 1))


def _each(value: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, tuple | list | torch.Size) else (value,)
    return values * dimensions if len(values) == 1 else values


def multiplied(call: Call, weight: Tensor) -> Tensor:
    """Return the product of a call's input and another weight, without bias."""
    if not call.dimensions:
        return F.linear(call.input, weight)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[call.dimensions - 1]
    return convolve(call.padded_input(), weight, None, call.stride, 0, call.dilation, call.groups)


def work(call: Call, output: Tensor) -> int:
    """Return how many multiply-adds a call takes."""
    return output.numel() * math.prod(call.weight.shape[1:])
