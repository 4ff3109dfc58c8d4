"""The layers that version 4 takes apart: weights of convolutions and linear layers, as matrices that act on patches.

Shapes: O outputs, G groups, R = O/G rows a group, n = numbers a row, T terms a unit (numbers of a kernel, or 1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mess.scheme.learned.calls import Call, Watch, multiplied

WIDEST, SPAN = 4608, 2304  # numbers a row that are looked at together: of wider layers parts, of no more than these
PATCH_NUMBERS = 1 << 23  # of patches in memory at once (32 MiB)
KERNELS_A_TERM = 16  # kernels for each element of a kernel, from which on a basis of their own saves bytes
Basis = tuple[int, int, bool]  # kernel height and width, depthwise


@dataclass(frozen=True)
class WeightLayer:
    """One weight that is stored as sums of references.

    Attributes:
        name: of the weight in the state dict.
        basis: which basis its kernels share; None: each number is a unit.
        groups: that do not see one another's inputs.
        calls: products that it takes part in, in a forward pass; 0: what it does is not known.
    """

    name: str
    weight: nn.Parameter
    basis: Basis | None = None
    groups: int = 1
    calls: int = 0

    @property
    def terms(self) -> int:
        """Elements of a unit, T."""
        return self.basis[0] * self.basis[1] if self.basis else 1

    @property
    def spans(self) -> list[slice]:
        """Parts of a row, of whole units, that errors are passed on within.

        What rounding takes goes with the cube of what is looked at together: of a linear layer with 25,000 inputs, as
        VGG has it, it would take an hour and the memory of a large machine.
        """
        size = self.weight[0].numel()
        units = size // self.terms
        parts = math.ceil(units / max(1, SPAN // self.terms)) if size > WIDEST else 1
        each = math.ceil(units / parts) * self.terms
        return [slice(start, min(start + each, size)) for start in range(0, size, each)]

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight as (G, R, n)."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)


@dataclass
class _Use:
    calls: int = 0
    groups: set[int] = field(default_factory=set)
    dimensions: set[int] = field(default_factory=set)


@torch.no_grad()
def weight_layers(model: nn.Module, example: Tensor) -> list[WeightLayer]:
    """Return the weights, in the order in which they are used; those that no product is seen of come last.

    Args:
        example: inputs to run the network on.
    """
    weights = {name: p for name, p in model.named_parameters() if is_matrix(p)}
    used: dict[str, _Use] = {}

    def note(name: str, call: Call) -> None:
        use = used.setdefault(name, _Use())
        use.calls += 1
        use.groups.add(call.groups)
        use.dimensions.add(call.dimensions)

    with Watch({id(p): name for name, p in weights.items()}, before=note):
        model(example)
    alike = {name: use for name, use in used.items() if len(use.groups) == len(use.dimensions) == 1}
    keys = worth_their_bases({name: (weights[name], _basis_key(weights[name], use)) for name, use in alike.items()})
    seen = [WeightLayer(name, weights[name], keys[name], min(use.groups), use.calls) for name, use in alike.items()]
    return seen + [WeightLayer(name, p) for name, p in weights.items() if name not in alike]


def worth_their_bases(kinds: Mapping[str, tuple[Tensor, Basis | None]]) -> dict[str, Basis | None]:
    """Return the kind of each weight's kernels; None where there are too few of a kind to be worth a basis.

    Args:
        kinds: name → weight and the kind of its kernels, None where it has none.
    """
    kernels = Counter[Basis]()
    for weight, key in kinds.values():
        if key is not None:
            kernels[key] += weight.shape[0] * weight.shape[1]
    worth = {key for key, count in kernels.items() if count >= KERNELS_A_TERM * key[0] * key[1]}
    return {name: key if key in worth else None for name, (_, key) in kinds.items()}


def patches(call: Call, every: int = 1, first: int = 0) -> Iterator[Tensor]:
    """Yield what a call multiplies its weight with, in pieces of (G, N, n).

    Numbers of a patch lie as in memory, rows of the window × columns × channels, so that cutting patches out of images
    in channels-last order copies whole runs; `patch_order` says where those of a weight's row are.

    Args:
        every: take only every n-th place along each dimension, from `first` on.
    """
    if not call.dimensions:
        yield call.input.reshape(1, -1, call.input.shape[-1])
        return
    windows = call.padded_input().movedim(1, -1).contiguous()
    for axis, (k, d, s) in enumerate(zip(call.kernel, call.dilation, call.stride, strict=True), start=1):
        windows = windows.unfold(axis, d * (k - 1) + 1, s)[..., ::d]  # a view: (B, H, W, C, kernel rows, columns)
    windows = _thinned(windows, call.dimensions, every, first)
    # a view: (G, B, H, W, kernel rows, columns, channels)
    grouped = windows.unflatten(call.dimensions + 1, (call.groups, -1)).movedim(call.dimensions + 1, 0)
    grouped = grouped.movedim(call.dimensions + 2, -1)
    each = max(1, PATCH_NUMBERS // max(1, grouped[:, :1].numel()))
    for piece in grouped.split(each, dim=1):
        yield piece.reshape(call.groups, math.prod(piece.shape[1 : call.dimensions + 2]), -1)


def products(call: Call, weight: Tensor, every: int = 1, first: int = 0) -> Tensor:
    """Return what a weight makes of each of these patches, (G, N, R)."""
    output = multiplied(call, weight)
    if call.dimensions:
        output = _thinned(output.movedim(1, -1), call.dimensions, every, first)
    return output.reshape(-1, call.groups, output.shape[-1] // call.groups).transpose(0, 1)


def places(call: Call) -> int:
    """Return how many places a window takes in each dimension at least, 1 for a linear layer."""
    sizes = call.padded_input().shape[2:] if call.dimensions else ()
    each = zip(sizes, call.kernel, call.dilation, call.stride, strict=True)
    return min(((size - d * (k - 1) - 1) // s + 1 for size, k, d, s in each), default=1)


def patch_order(weight: Tensor) -> Tensor:
    """Return where in a patch each number of a weight's row is, (n,)."""
    shape = weight.shape[1:]  # (channels, rows, columns), or (n,)
    places_ = torch.arange(math.prod(shape), device=weight.device)
    return places_.reshape(*shape[1:], shape[0]).movedim(-1, 0).flatten() if len(shape) > 1 else places_


def _thinned(places_: Tensor, dimensions: int, every: int, first: int) -> Tensor:
    for axis in range(1, dimensions + 1 if every > 1 else 1):
        start = min(first, places_.shape[axis] - 1)
        places_ = places_[(slice(None),) * axis + (slice(start, None, every),)]
    return places_


def is_matrix(parameter: Tensor) -> bool:
    """Say whether there are rows and columns: anything else is a vector, whatever shape it has."""
    return parameter.is_floating_point() and parameter.numel() > max(parameter.shape, default=1)


def _basis_key(weight: Tensor, use: _Use) -> Basis | None:
    if use.dimensions != {2} or math.prod(weight.shape[2:]) == 1:
        return None
    return (*weight.shape[2:], weight.shape[1] == 1 and min(use.groups) > 1)
