"""What a layer is, where only names and shapes of a state dict say it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

Shape = tuple[int, ...]
RGB = 3


def is_transposed(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether a convolution's weight is (inputs, outputs, …), as its bias tells: that has one number an output."""
    bias = weights.get(f"{name.removesuffix('weight')}bias")
    return bias is not None and bias.dim() == 1 and len(bias) != weights[name].shape[0]


def entrance(layers: Mapping[str, Shape]) -> str | None:
    """Return the layer of several inputs that takes the images: its inputs are three, or no layer's outputs.

    Args:
        layers: shapes of convolutions and linear layers, (outputs, inputs a group, …).
    """
    made = {shape[0] for shape in layers.values()} - {RGB}
    found = [name for name, shape in layers.items() if len(shape) > 2 and shape[1] > 1 and shape[1] not in made]
    return min(found, key=lambda name: (layers[name][1] != RGB, layers[name][1]), default=None)  # grouped ones have few


def find_depthwise(layers: Mapping[str, Shape]) -> tuple[set[str], set[str]]:
    """Return which layers convolve each channel by itself, and which are none of these nor ordinary convolutions.

    One input a kernel may also be the first layer of a network for grey images. It is where no other layer takes
    images, and where no second layer has one input: a network of depthwise convolutions has several. A layer of one
    input that is neither is a transposed convolution of one output.
    """
    found = _of_one_input(layers)
    taken = found[:1] if entrance(layers) is None else []
    others = found[len(taken) :]
    if len(others) > 1:
        return set(others), set()
    return set(), set(found[1:])


def in_forward_order(layers: Mapping[str, Shape]) -> list[str]:
    """Return the names in the order given, but the layer that takes the images, where shapes tell it, first."""
    first = entrance(layers) or next(iter(_of_one_input(layers)), None)
    return sorted(layers, key=lambda name: name != first)


def _of_one_input(layers: Mapping[str, Shape]) -> list[str]:
    return [name for name, shape in layers.items() if math.prod(shape[2:]) > 1 and shape[1] == 1 and shape[0] > 1]
