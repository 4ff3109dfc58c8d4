"""Inputs for a network that comes as ONNX: of the shape its graph says, made up where none are given."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.graphs.looking import CANNOT_RUN
from mess.graphs.network import GraphNetwork
from mess.graphs.plan import GraphInput
from mess.scheme.learned import StageProgress
from mess.scheme.learned.inputs import natural_noise
from mess.storing.made_up import CHANNELS, FEW, make_up

SIDES = ((224, 224), (320, 320), (48, 320), (640, 640), (64, 64), (32, 32))  # tried in turn, height and width
DIM = 0.2  # answer to images of variance 1 over the bias, below which a first layer expects levels of 0…255
LEVELS = 64.0  # standard deviation of images with such levels
ANY_SIZE = 64  # of an axis that may have any
KINDS = {2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}  # of ONNX


def make_inputs(
    network: GraphNetwork, shape: tuple[int, ...] | None, device: torch.device, *, progress: StageProgress
) -> Tensor | None:
    """Return inputs that look like images, as far as anything in the network says what these look like.

    Args:
        shape: of one input; None: the graph's, and where it leaves sides open the first usual ones that run.
        device: that they are made on.

    Raises:
        OptionError: a shape that the graph does not take.
    """
    for size in [shape] if shape is not None else possible_shapes(network.plan.inputs[0]):
        if not _runs(network, size):
            continue
        count = max(2, min(FEW, FEW * 224**2 * 3 // math.prod(size)))
        level = 1.0 if any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) else levels_of(network)
        return make_up(network, size, device, count=count, level=level, progress=progress)
    if shape is not None:
        raise OptionError("--input-shape", "a shape of one input that the model takes", shape)
    return None


def levels_of(network: GraphNetwork) -> float:
    """Return 64 where the first convolution is made for levels of 0…255, else 1.

    The biases of a trained layer are about as large as its answers. To images of variance 1 a layer that expects 0…255
    answers with a few hundredths of its biases, any other with more than these.
    """
    step = next((s for s in network.plan.steps if s.operator == "Conv"), None)
    values = [network.value(name) for name in step.inputs[1:]] if step is not None else []
    if len(values) < 2 or values[0] is None or values[1] is None or values[0].dim() != 4:
        return 1.0
    weight, bias = values[0].detach(), values[1].detach()
    image = natural_noise(4, max(64, *weight.shape[2:]))
    channels = image if weight.shape[1] == 3 else image[:, :1].expand(-1, weight.shape[1], -1, -1)
    answer = torch.nn.functional.conv2d(channels, weight)
    ratio = answer.std((0, 2, 3)) / bias.abs().clamp_min(1e-12)
    return LEVELS if float(ratio.median()) < DIM else 1.0


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
