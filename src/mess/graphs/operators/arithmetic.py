"""Arithmetic, comparisons, activations and reductions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mess.graphs.operators.table import Attributes, Operator, UnknownError

CAST = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float32, 11: torch.float32, 16: torch.float32,
}  # fmt: skip


def plain(function: Callable[..., Tensor]) -> Operator:
    """Return an operator without attributes."""
    return lambda _, *inputs: function(*inputs)


def cast(attributes: Attributes, x: Tensor) -> Tensor:
    """Return other kinds of numbers; all floats are float32."""
    kind = CAST.get(attributes.get("to"))
    if kind is None:
        raise UnknownError(f"Cast to kind {attributes.get('to')}")
    return x.to(kind)


def clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Return numbers within limits."""
    lowest = attributes.get("min") if low is None else low.to(x.dtype)
    highest = attributes.get("max") if high is None else high.to(x.dtype)
    for limit, within in ((lowest, torch.clamp_min), (highest, torch.clamp_max)):
        x = x if limit is None else within(x, limit)
    return x


def softmax(attributes: Attributes, x: Tensor, function: Callable[..., Tensor] = torch.softmax) -> Tensor:
    """Softmax over one axis; before opset 13 over all from that axis on."""
    if attributes.opset >= 13:
        return function(x, attributes.get("axis", -1))
    axis = attributes.get("axis", 1) % x.dim()
    return function(x.flatten(axis), axis).reshape(x.shape)


def shrink(attributes: Attributes, x: Tensor) -> Tensor:
    """0 within ±λ, nearer to 0 by the bias outside."""
    bias, limit = attributes.get("bias", 0.0), attributes.get("lambd", 0.5)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


def reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """Return an operator that makes one number of all along some axes."""

    def reduced(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = attributes.numbers("axes", axes, [])
        if not chosen and attributes.get("noop_with_empty_axes", 0):
            return x
        keep = bool(attributes.get("keepdims", 1))
        return function(x, [a % x.dim() for a in chosen] if chosen else list(range(x.dim())), keep)

    return reduced


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def arg(function: Callable[..., Tensor]) -> Operator:
    """Return an operator that says where the largest or smallest number is."""

    def found(attributes: Attributes, x: Tensor) -> Tensor:
        axis = attributes.get("axis", 0)
        if attributes.get("select_last_index", 0):
            return x.shape[axis] - 1 - function(x.flip(axis), axis, bool(attributes.get("keepdims", 1)))
        return function(x, axis, bool(attributes.get("keepdims", 1)))

    return found


def several(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Return an operator of any number of inputs."""
    return lambda _, *inputs: reduce(function, inputs)


def with_slope(function: Callable[..., Tensor], name: str, default: float) -> Operator:
    """Return an activation with one number that an attribute gives."""
    return lambda attributes, x: function(x, attributes.get(name, default))


def _norm(power_: int) -> Callable[[Tensor, list[int], bool], Any]:
    return lambda x, axes, keep: torch.linalg.vector_norm(x, power_, axes, keep)


ARITHMETIC: dict[str, Operator] = {
    "Abs": plain(torch.abs), "Add": plain(torch.add), "And": plain(torch.logical_and), "ArgMax": arg(torch.argmax),
    "ArgMin": arg(torch.argmin), "Cast": cast, "CastLike": lambda _, x, like: x.to(like.dtype),
    "Ceil": plain(torch.ceil), "Celu": with_slope(F.celu, "alpha", 1.0), "Clip": clip, "Cos": plain(torch.cos),
    "Div": lambda _, x, y: torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc"),
    "Einsum": lambda a, *inputs: torch.einsum(a.get("equation"), *inputs),
    "Elu": with_slope(F.elu, "alpha", 1.0), "Equal": plain(torch.eq), "Erf": plain(torch.erf), "Exp": plain(torch.exp),
    "Floor": plain(torch.floor), "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "Greater": plain(torch.gt), "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda _, x: x * (x / 6 + 0.5).clamp(0, 1), "Identity": plain(lambda x: x),
    "LeakyRelu": with_slope(F.leaky_relu, "alpha", 0.01), "Less": plain(torch.lt), "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log), "LogSoftmax": lambda attributes, x: softmax(attributes, x, torch.log_softmax),
    "Max": several(torch.maximum), "Mean": lambda _, *inputs: reduce(torch.add, inputs) / len(inputs),
    "Min": several(torch.minimum), "Mish": plain(F.mish),
    "Mod": lambda a, x, y: torch.fmod(x, y) if a.get("fmod", 0) else torch.remainder(x, y),
    "Mul": plain(torch.mul), "Neg": plain(torch.neg), "Not": plain(torch.logical_not), "Or": plain(torch.logical_or),
    "PRelu": lambda _, x, slope: torch.where(x < 0, x * slope, x), "Pow": lambda _, x, y: torch.pow(x, y).to(x.dtype),
    "Reciprocal": plain(torch.reciprocal),
    "ReduceL1": reduction(_norm(1)), "ReduceL2": reduction(_norm(2)),
    "ReduceLogSumExp": reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMax": reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": reduction(lambda x, axes, keep: x.amin(axes, keep)), "ReduceProd": reduction(_product),
    "ReduceSum": reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceSumSquare": reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Relu": plain(torch.relu), "Round": plain(torch.round),  # halves to even
    "Selu": lambda a, x: a.get("gamma", 1.0507009873554805) * F.elu(x, a.get("alpha", 1.6732632423543772)),
    "Shrink": shrink, "Sigmoid": plain(torch.sigmoid), "Sign": plain(torch.sign), "Sin": plain(torch.sin),
    "Softmax": softmax, "Softplus": lambda _, x: F.softplus(x, threshold=60.0), "Softsign": plain(F.softsign),
    "Sqrt": plain(torch.sqrt), "Sub": plain(torch.sub), "Sum": several(torch.add),
    "Swish": lambda a, x: x * torch.sigmoid(a.get("alpha", 1.0) * x),
    "Tan": plain(torch.tan), "Tanh": plain(torch.tanh),
    "ThresholdedRelu": lambda a, x: torch.where(x > a.get("alpha", 1.0), x, torch.zeros_like(x)),
    "Where": plain(torch.where), "Xor": plain(torch.logical_xor),
}  # fmt: skip
