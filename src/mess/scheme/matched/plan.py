"""Which tensors of a network are stored by reference, and which are not and why.

Networks that have depthwise convolutions with kernels larger than one number: those. All others: every such
convolution, grouped and dilated ones too. Kernels of another size are a group of their own, with its own references.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.extra_state import apart
from mess.scheme.matched.geometry import Geometry
from mess.scheme.matched.shapes import find_depthwise, in_forward_order, is_transposed
from mess.scheme.order import in_natural_order
from mess.scheme.ties import check_weights, find_ties
from mess.scheme.versions import Scheme

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Group:
    """Tensors that share references: those of `source`; `targets` are stored by reference to them."""

    source: Geometry
    targets: tuple[Geometry, ...]


@dataclass(frozen=True)
class Plan:
    """What is stored by reference.

    Attributes:
        groups: tensors that share references.
        tied: name → the name under which the same tensor is stored.
    """

    groups: tuple[Group, ...]
    tied: dict[str, str]


@dataclass(frozen=True)
class _Layer:
    name: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    depthwise: bool


def plan(
    network: nn.Module | Mapping[str, Tensor], scheme: Scheme, *, pointwise: int | None = None, linear: bool = False
) -> Plan:
    """Decide what is stored by reference to what.

    Args:
        network: a module, whose convolutions are found by kind and counted in the order of registration, which is the
            order of the forward pass; or a state dict, where they are found by shape and counted in the natural order
            of names, whatever the order of the dict, behind the layer that takes the images.
        scheme: says which layer the references come from.
        pointwise: elements per unit (D) of 1x1 convolutions, matched to every slice of the first; None: as they are.
        linear: with `pointwise`, linear layers likewise, referring to the first of them.

    Raises:
        OptionError: fewer kernel layers than the version needs, or a unit larger than the reference layer.
        WeightsError: a tensor that cannot be stored, by name.
    """
    weights = apart(network.state_dict() if isinstance(network, nn.Module) else network)[0]
    check_weights(weights)
    if not isinstance(network, nn.Module):
        weights = {name: weights[name] for name in in_natural_order(weights)}
    tied = find_ties(weights)
    layers = [layer for layer in _layers(network, weights) if layer.name not in tied]
    kernels = [layer for layer in layers if math.prod(layer.kernel) > 1]
    depthwise = [layer for layer in kernels if layer.depthwise]
    chosen = depthwise or kernels
    groups = []
    sizes = list(dict.fromkeys(layer.kernel for layer in chosen))
    for size in sizes:
        same = [layer for layer in chosen if layer.kernel == size]
        if len(same) < scheme.reference_layer + 2:
            continue
        numbers = math.prod(size) * scheme.bind
        groups.append(_group(same[scheme.reference_layer :], scheme, numbers))
    if not groups:
        raise OptionError(
            f"version {scheme.version}",
            f"at least {scheme.reference_layer + 2} layers with kernels of one size",
            f"{len(chosen)} kernel layers" if chosen else "no convolution with kernels larger than 1x1",
        )
    if pointwise is not None:
        groups += _sliced(
            [layer for layer in layers if math.prod(layer.kernel) == 1 and len(layer.shape) > 2], pointwise
        )
        if linear:
            groups += _sliced([layer for layer in layers if len(layer.shape) == 2], pointwise)
    return Plan(tuple(groups), tied)


def _group(layers: list[_Layer], scheme: Scheme, unit: int) -> Group:
    cuts = [Geometry(x.shape, math.prod(x.shape), unit, x.name, unit) for x in layers]
    if not cuts[0].references:
        kernels = cuts[0].numel * scheme.bind // unit
        raise OptionError("--bind-size", f"at most {kernels}, the kernels of {cuts[0].name}", scheme.bind)
    return Group(cuts[0], tuple(cuts[1:]))


def _sliced(layers: list[_Layer], size: int) -> list[Group]:
    """Return the group of layers whose rows are cut into slices; the first with rows that long gives references."""
    cuts = [Geometry(x.shape, x.shape[1], size, x.name, 1) for x in layers]
    first = next((i for i, cut in enumerate(cuts) if cut.references), None)
    if first is None or first + 1 == len(cuts):
        return []
    return [Group(cuts[first], tuple(cuts[first + 1 :]))]


def _layers(network: nn.Module | Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Iterable[_Layer]:
    """Yield convolutions and linear layers: of a module by kind, of a state dict by shape."""
    if isinstance(network, nn.Module):
        for prefix, module in network.named_modules():
            name = f"{prefix}.weight" if prefix else "weight"
            if name not in weights or weights[name].dtype not in REAL or not weights[name].numel():
                continue
            shape = tuple(weights[name].shape)
            if isinstance(module, CONVOLUTIONS):
                depthwise = module.groups == module.in_channels and module.in_channels > 1
                yield _Layer(name, shape, tuple(module.kernel_size), depthwise)
            elif isinstance(module, nn.Linear):
                yield _Layer(name, shape, (), False)
        return
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in weights.items()
        if tensor.dtype in REAL and name.endswith("weight") and 2 <= tensor.dim() <= 5
        and tensor.numel() and not (tensor.dim() > 2 and is_transposed(name, weights))
    }  # fmt: skip
    channelwise, others = find_depthwise(shapes)
    for name in in_forward_order({name: shape for name, shape in shapes.items() if name not in others}):
        yield _Layer(name, shapes[name], shapes[name][2:], name in channelwise)
