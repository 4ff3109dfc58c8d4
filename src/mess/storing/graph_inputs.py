"""Inputs of the shape that an ONNX graph says: images to look at the network with, and what answers are compared on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mess.errors import OptionError
from mess.graphs.looking import CANNOT_RUN
from mess.graphs.network import GraphNetwork
from mess.graphs.plan import GraphInput
from mess.scheme.learned import StageProgress
from mess.storing.made_up import CHANNELS, make_up

SIDES = ((224, 224), (320, 320), (48, 320), (640, 640), (64, 64), (32, 32))  # tried in turn, height and width
MOST = 16  # images
ANY_SIZE = 64  # of an axis that may have any
KINDS = {2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}  # of ONNX


def make_inputs(
    network: GraphNetwork, shape: tuple[int, ...] | None, device: torch.device, *, progress: StageProgress
) -> Tensor | None:
    """Return images like those that the network remembers; None where no shape of one is known that runs.

    Args:
        shape: of one input; None: the graph's, and where it leaves sides open the first usual ones that run.
        device: that they are made on.

    Raises:
        OptionError: a shape that the graph does not take.
    """
    for size in [shape] if shape is not None else possible_shapes(network.plan.inputs[0]):
        if not _runs(network, size):
            continue
        count = max(2, min(MOST, MOST * 224**2 * 3 // math.prod(size)))
        return make_up(network, size, device, count=count, progress=progress)
    if shape is not None:
        raise OptionError("--input-shape", "a shape of one input that the model takes", shape)
    return None


def possible_shapes(first: GraphInput) -> Iterator[tuple[int, ...]]:
    """Yield shapes of one input that a graph may take."""
    sizes = first.shape[1:]
    if None not in sizes:
        yield tuple(size for size in sizes if size is not None)
        return
    if len(sizes) != 3:
        return
    last = sizes[2] in CHANNELS and sizes[0] not in CHANNELS
    channels = (sizes[2] if last else sizes[0]) or 3
    height, width = (sizes[0], sizes[1]) if last else (sizes[1], sizes[2])
    for h, w in SIDES:
        h, w = (height or (width or h), width or (4 * height if height and height <= 64 else height or w))
        yield (h, w, channels) if last else (channels, h, w)


def feeds_of(network: GraphNetwork, inputs: Tensor | None, most: int) -> list[dict[str, np.ndarray]]:
    """Return what onnxruntime is given, one input at a time.

    Other inputs of a graph are zeros if they are floats, as states are at first; whole numbers are taken for lengths.
    """
    first, *others = network.plan.inputs
    if inputs is not None:
        given = [x.numpy() for x in inputs[:most].split(1)]
    else:
        shape = [size or (1 if place == 0 else ANY_SIZE) for place, size in enumerate(first.shape)]
        given = [np.random.default_rng(0).normal(size=shape)]
    feeds = []
    for array in given:
        length = array.shape[-1] if array.ndim else 1
        fixed = {
            other.name: _as_kind(np.full([n or 1 for n in other.shape], 0 if other.is_float else length), other)
            for other in others
        }
        feeds.append({first.name: _as_kind(array, first), **fixed})
    return feeds


def _as_kind(array: np.ndarray, given: GraphInput) -> np.ndarray:
    return array.astype(KINDS.get(given.kind, "float32"))


@torch.no_grad()
def _runs(network: GraphNetwork, shape: tuple[int, ...]) -> bool:
    try:
        network.outputs(torch.zeros(1, *shape))
    except CANNOT_RUN:
        return False
    return True
