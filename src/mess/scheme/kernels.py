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
from torch.nn.parameter import is_lazy

from mess.errors import OptionError, WeightsError
from mess.scheme.geometry import Geometry
from mess.scheme.order import in_natural_order
from mess.scheme.shapes import find_depthwise, in_forward_order, is_transposed
from mess.scheme.ties import find_ties
from mess.scheme.versions import Scheme

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
STORABLE = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip
LONGEST_NAME = 1024  # as the format has it
CONVERT = "Convert it first: tensor.float()"


@dataclass(frozen=True)
class Group:
    """Tensors that share references: those of `source`; `targets` are stored by reference to them."""

    source: Geometry
    targets: tuple[Geometry, ...]


@dataclass(frozen=True)
class Plan:
    """What becomes of every tensor.

    Attributes:
        groups: what is stored by reference.
        as_is: (name, reason) of every tensor that is not.
        tied: name → the name under which the same tensor is stored.
    """

    groups: tuple[Group, ...]
    as_is: tuple[tuple[str, str], ...]
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
            of names, whatever the order of the dict, behind the layer that takes the pictures.
        scheme: says which layer the references come from.
        pointwise: numbers a unit (D) of 1x1 convolutions, matched to every slice of the first; None: as they are.
        linear: with `pointwise`, linear layers likewise, referring to the first of them.

    Raises:
        OptionError: fewer kernel layers than the version needs, or a unit larger than the reference layer.
        WeightsError: a tensor that cannot be stored, by name.
    """
    weights = dict(network.state_dict()) if isinstance(network, nn.Module) else dict(network)
    check_weights(weights)
    if not isinstance(network, nn.Module):
        weights = {name: weights[name] for name in in_natural_order(weights)}
    tied = find_ties(weights)
    layers = [layer for layer in _layers(network, weights) if layer.name not in tied]
    kernels = [layer for layer in layers if math.prod(layer.kernel) > 1]
    depthwise = [layer for layer in kernels if layer.depthwise]
    chosen = depthwise or kernels
    reasons: dict[str, str] = {}
    groups = []
    sizes = list(dict.fromkeys(layer.kernel for layer in chosen))
    for size in sizes:
        same = [layer for layer in chosen if layer.kernel == size]
        needed = scheme.reference_layer + 2
        if len(same) < needed:
            text = "×".join(map(str, size))
            reasons.update(
                (x.name, f"{text} kernels, of which version {scheme.version} needs {needed} layers") for x in same
            )
            continue
        numbers = math.prod(size) * scheme.bind
        groups.append(_group(same[scheme.reference_layer :], scheme, numbers))
        reasons.update((layer.name, "kernel layer before the references") for layer in same[: scheme.reference_layer])
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
    by_reference = {target.name for group in groups for target in group.targets}
    reasons.update((group.source.name, "the references themselves") for group in groups)
    as_is = tuple(
        (name, reasons.get(name) or _reason(name, layers, bool(depthwise)))
        for name in weights
        if name not in by_reference and name not in tied
    )
    return Plan(tuple(groups), as_is, tied)


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Refuse what no file of ours can hold, by name.

    Raises:
        WeightsError: no tensor at all; a name that is no printable text; a tensor without data, or that is complex,
            sparse, quantised, of a dtype that no file holds, or not finite.
    """
    if not isinstance(weights, Mapping):
        raise WeightsError("weights", "a module, or a mapping of names to tensors", type(weights).__name__)
    if not weights:
        raise WeightsError("weights", "a state dict with tensors", "an empty one")
    for name, tensor in weights.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            found = repr(name)[:60] if isinstance(name, str) else f"{name!r:.60}, {type(name).__name__}"
            raise WeightsError("weights", f"names of at most {LONGEST_NAME} printable characters", found)
        if not isinstance(tensor, Tensor):
            raise WeightsError(name, "a tensor", type(tensor).__name__)
        if (what := _odd_kind(tensor)) is not None:
            raise WeightsError(name, "a dense tensor of real numbers", what)
        if tensor.dtype not in STORABLE:
            raise WeightsError(name, f"one of {', '.join(map(_named, STORABLE))}", _named(tensor.dtype), CONVERT)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(name, "finite numbers", "NaN" if bool(torch.isnan(tensor).any()) else "infinity")


def _odd_kind(tensor: Tensor) -> str | None:
    """Say what a tensor is that is no plain one."""
    if is_lazy(tensor):
        return "one of a lazy module that has never run"
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__}, which keeps its numbers in other tensors"
    for odd, what in (
        (tensor.is_complex(), "complex numbers"),
        (tensor.is_nested or tensor.layout != torch.strided, f"a {tensor.layout} tensor"),
        (tensor.is_quantized, "a tensor of torch's quantised kind"),
        (tensor.is_meta, "a tensor without data"),
    ):
        if odd:
            return what
    return None


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _group(layers: list[_Layer], scheme: Scheme, unit: int) -> Group:
    cuts = [Geometry(x.name, x.shape, math.prod(x.shape), unit, unit) for x in layers]
    if not cuts[0].references:
        kernels = cuts[0].numel * scheme.bind // unit
        raise OptionError("--bind-size", f"at most {kernels}, the kernels of {cuts[0].name}", scheme.bind)
    return Group(cuts[0], tuple(cuts[1:]))


def _sliced(layers: list[_Layer], size: int) -> list[Group]:
    """Return the group of layers whose rows are cut into slices; the first with rows that long gives references."""
    cuts = [Geometry(x.name, x.shape, x.shape[1], size, 1) for x in layers]
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
        name: tuple(weights[name].shape)
        for name in in_natural_order(weights)
        if (tensor := weights[name]).dtype in REAL and name.endswith("weight") and 2 <= tensor.dim() <= 5
        and tensor.numel() and not (tensor.dim() > 2 and is_transposed(name, weights))
    }  # fmt: skip
    channelwise, others = find_depthwise(shapes)
    for name in in_forward_order({name: shape for name, shape in shapes.items() if name not in others}):
        yield _Layer(name, shapes[name], shapes[name][2:], name in channelwise)


def _reason(name: str, layers: list[_Layer], depthwise: bool) -> str:
    layer = next((x for x in layers if x.name == name), None)
    if layer is None:
        return "not a convolution or linear weight"
    if len(layer.shape) == 2:
        return "linear layer"
    if math.prod(layer.kernel) == 1:
        return "1x1 convolution"
    return "dense convolution beside depthwise ones" if depthwise else "convolution"
