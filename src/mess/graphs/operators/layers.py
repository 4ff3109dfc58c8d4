"""Convolutions, products, pooling and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mess.graphs.operators.table import Attributes, Operator, UnknownError

Sides = list[tuple[int, int]]  # before and after each dimension


def windows(attributes: Attributes, sizes: list[int], kernel: list[int]) -> tuple[list[int], list[int], Sides]:
    """Return stride, dilation and what is put around, of a window over places of `sizes`."""
    dims = len(kernel)
    stride, dilation = (list(attributes.get(name) or [1] * dims) for name in ("strides", "dilations"))
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = attributes.get("pads") or [0] * (2 * dims)
        return stride, dilation, list(zip(pads[:dims], pads[dims:], strict=True))
    if auto == "VALID":
        return stride, dilation, [(0, 0)] * dims
    sides = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return stride, dilation, sides


def padded(x: Tensor, sides: Sides, value: float = 0.0) -> Tensor:
    """Put numbers around the last dimensions."""
    flat = [n for side in reversed(sides) for n in side]
    return F.pad(x, flat, value=value) if any(flat) else x


def conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution in 1 to 3 dimensions."""
    stride, dilation, sides = windows(attributes, list(x.shape[2:]), list(weight.shape[2:]))
    even = all(before == after for before, after in sides)
    function: Any = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.dim()]
    padding = [before for before, _ in sides] if even else 0
    return function(
        x if even else padded(x, sides), weight, bias, stride, padding, dilation, attributes.get("group", 1)
    )


def conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution."""
    kernel = list(weight.shape[2:])
    dims = len(kernel)
    stride, dilation, sides = windows(attributes, list(x.shape[2:]), kernel)
    if attributes.get("output_shape") or attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        raise UnknownError("ConvTranspose with output_shape or auto_pad")
    more = attributes.get("output_padding") or [0] * dims
    function: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[dims]
    if all(before == after for before, after in sides):
        padding = [before for before, _ in sides]
        return function(x, weight, bias, stride, padding, more, attributes.get("group", 1), dilation)
    whole = function(x, weight, bias, stride, 0, more, attributes.get("group", 1), dilation)
    for axis, (before, after) in enumerate(sides, start=2):
        whole = whole.narrow(axis, before, whole.shape[axis] - before - after)
    return whole


def gemm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """α·x·W + β·b."""
    x = x.mT if attributes.get("transA", 0) else x
    rows = weight if attributes.get("transB", 0) else weight.mT
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    y = F.linear(x, rows)
    y = y if alpha == 1 else alpha * y
    return y if bias is None else y + (bias if beta == 1 else beta * bias)


def max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """Largest number in each window."""
    if attributes.outputs > 1:
        raise UnknownError("MaxPool with places")
    kernel = attributes.get("kernel_shape")
    stride, dilation, sides = windows(attributes, list(x.shape[2:]), kernel)
    x = padded(x, sides, float("-inf"))
    function: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    if attributes.get("ceil_mode", 0):
        x = padded(x, _to_whole(x, kernel, stride, dilation, sides), float("-inf"))
    return function(x, kernel, stride, 0, dilation)


def average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """Mean of each window; what is put around counts only if it says so."""
    kernel = attributes.get("kernel_shape")
    stride, dilation, sides = windows(attributes, list(x.shape[2:]), kernel)
    if any(d != 1 for d in dilation):
        raise UnknownError("AveragePool with dilations")
    function: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    inside = torch.ones_like(x[:1, :1])
    inside = padded(inside, sides, 1.0 if attributes.get("count_include_pad", 0) else 0.0)
    x = padded(x, sides)
    if attributes.get("ceil_mode", 0):
        more = _to_whole(x, kernel, stride, dilation, sides)
        x, inside = padded(x, more), padded(inside, more)
    return function(x, kernel, stride) / function(inside, kernel, stride)


def _to_whole(x: Tensor, kernel: list[int], stride: list[int], dilation: list[int], sides: Sides) -> Sides:
    """Return what is put behind so that the last window, if it starts inside, is a whole one."""
    more = []
    for size, k, s, d, (_, after) in zip(x.shape[2:], kernel, stride, dilation, sides, strict=True):
        reach = d * (k - 1) + 1
        count = -(-(size - reach) // s) + 1
        if (count - 1) * s >= size - after:  # it would start in what was put around
            count -= 1
        more.append((0, max((count - 1) * s + reach - size, 0)))
    return more


def over_places(function: Callable[..., Tensor]) -> Operator:
    """Return an operator that makes one number of all places of a channel."""
    return lambda _, x: function(x, list(range(2, x.dim())), True)


def batch_norm(
    attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """BatchNorm as it is in use."""
    if attributes.get("training_mode", 0) or attributes.outputs > 1:
        raise UnknownError("BatchNormalization in training")
    return F.batch_norm(x, mean, variance, weight, bias, eps=attributes.get("epsilon", 1e-5))


def layer_norm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Normalise all from an axis on."""
    if attributes.outputs > 1:
        raise UnknownError("LayerNormalization with mean and deviation")
    shape = x.shape[attributes.get("axis", -1) % x.dim() :]
    shift = None if bias is None else bias.expand(shape)
    return F.layer_norm(x, shape, weight.expand(shape), shift, attributes.get("epsilon", 1e-5))


def group_norm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalise groups of channels; before opset 21 with a scale for each group."""
    groups = attributes.get("num_groups")
    weight, bias = (p.repeat_interleave(x.shape[1] // groups) if len(p) != x.shape[1] else p for p in (weight, bias))
    return F.group_norm(x, groups, weight, bias, attributes.get("epsilon", 1e-5))


LAYERS: dict[str, Operator] = {
    "AveragePool": average_pool, "BatchNormalization": batch_norm, "Conv": conv, "ConvTranspose": conv_transpose,
    "Dropout": lambda a, x, *_: (x, torch.ones_like(x, dtype=torch.bool)) if a.outputs > 1 else x, "Gemm": gemm,
    "GlobalAveragePool": over_places(torch.mean), "GlobalMaxPool": over_places(torch.amax),
    "GroupNormalization": group_norm,
    "InstanceNormalization": lambda a, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=a.get("epsilon", 1e-5)),
    "LRN": lambda a, x: F.local_response_norm(
        x, a.get("size"), a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)),
    "LayerNormalization": layer_norm,
    "LpNormalization": lambda a, x: F.normalize(x, a.get("p", 2), a.get("axis", -1), eps=0.0),
    "MatMul": lambda _, x, y: torch.matmul(x, y), "MaxPool": max_pool,
}  # fmt: skip
