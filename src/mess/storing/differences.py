"""Two files of one network beside each other: how far each tensor moved, and what it costs in either."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mess import codec
from mess.arithmetic.batch_norm import scale_and_shift
from mess.codec.model import joined
from mess.errors import WeightsError, first_few
from mess.extra_state import apart
from mess.foreign.weights_file import load_weights
from mess.graphs.model_files import is_onnx_file
from mess.models.described import layout_of
from mess.scheme.order import in_natural_order
from mess.storing.graph import read_graph_network
from mess.storing.load import to_tensors
from mess.storing.sources import is_stored

USUAL_EPS = 1e-5  # of BatchNorm layers of which nothing says it
SCALE, SHIFT = "scale", "shift"  # of a BatchNorm layer
ALIKE = 1e-12  # error of float arithmetic


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of two files.

    Attributes:
        error: ‖a − b‖² / ‖a‖²; of whole numbers too.
        bytes: that the tensor takes in each; in a `.mess` file those of its streams (both of a BatchNorm layer count
            with its scale), else its numbers in their own dtype.
    """

    name: str
    shape: tuple[int, ...]
    error: float
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Differences:
    """Two files of one network. `only` are names that the first and the second have alone."""

    bytes: tuple[int, int]
    tensors: tuple[TensorDifference, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def error(self) -> float:
        """The largest error of a tensor."""
        return max((tensor.error for tensor in self.tensors), default=0.0)


def differences(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Differences:
    """Compare two files: `.mess`, `.onnx` or any file of weights.

    Raises:
        FormatError, CheckpointError: a file that cannot be read.
        WeightsError: no tensor that both have, or one of another shape.
    """
    one, other = _read(first), _read(second)
    eps = {**one.eps, **other.eps}
    a, b = _folded(one.weights, eps), _folded(other.weights, eps)
    both = [name for name in in_natural_order(a) if name in b]
    only = tuple(name for name in a if name not in b), tuple(name for name in b if name not in a)
    if not both:
        raise WeightsError(second, f"names of {first}", first_few(list(b)))
    tensors = []
    for name in both:
        if a[name].shape != b[name].shape:
            raise WeightsError(f"{second}: {name}", f"shape {tuple(a[name].shape)}", tuple(b[name].shape))
        sizes = (one.bytes.get(name, 0), other.bytes.get(name, 0))
        error = relative_error(a[name], b[name])
        tensors.append(TensorDifference(name, tuple(a[name].shape), error if error > ALIKE else 0.0, sizes))
    return Differences((Path(first).stat().st_size, Path(second).stat().st_size), tuple(tensors), only)


@dataclass(frozen=True)
class _File:
    """What a file has: tensors, the bytes of each (of a BatchNorm layer under its scale), eps of BatchNorm layers."""

    weights: Mapping[str, Tensor]
    bytes: dict[str, int]
    eps: dict[str, float]


def _read(path: str | os.PathLike[str]) -> _File:
    eps: dict[str, float] = {}
    if is_stored(path):
        info = codec.inspect_file(path, layout=layout_of)
        stored = codec.read_model(path, layout=layout_of)
        eps = {name: entry.eps for name, entry in stored.entries.items() if isinstance(entry, codec.BatchNorm)}
        sizes = {joined(t.name, SCALE) if t.name in eps else t.name: t.bytes for t in info.tensors}
        return _File(to_tensors(stored), sizes, eps)
    if is_onnx_file(path):
        module = read_graph_network(os.fspath(path))
        weights: Mapping[str, Tensor] = dict(module.state_dict())
        eps = {name: m.eps for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    else:
        weights = apart(load_weights(path)[0])[0]
    return _File(weights, {name: tensor.nbytes for name, tensor in weights.items()}, eps)


def _folded(weights: Mapping[str, Tensor], eps: Mapping[str, float]) -> dict[str, Tensor]:
    """Return tensors with BatchNorm layers as the two vectors they compute with, and without counters."""
    found = {name: tensor.detach() for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    for last in [name for name in found if name.endswith("running_var")]:
        prefix = last.removesuffix("running_var").rstrip(".")
        names = [joined(prefix, part) for part in codec.BATCH_NORM_PARTS[:4]]
        if not found.keys() >= {*names}:
            continue
        weight, bias, mean, var = (found.pop(name) for name in names)
        scale, shift = scale_and_shift(weight, bias, mean, var, eps.get(prefix, USUAL_EPS))
        found |= {joined(prefix, SCALE): scale, joined(prefix, SHIFT): shift}
    return found


def relative_error(a: Tensor, b: Tensor) -> float:
    """Return ‖a − b‖² / ‖a‖²."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).square().sum() / a.square().sum().clamp_min(torch.finfo(torch.float64).tiny))
