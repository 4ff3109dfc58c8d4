"""The layers that version 4 takes apart: convolutions and linear layers, as matrices that act on patches.

Shapes: O outputs, G groups, R = O/G rows a group, n = numbers a row, T terms a unit (numbers of a kernel, or 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_NUMBERS = 1 << 24  # of patches in memory at once (64 MiB)
KERNELS_A_TERM = 16  # so many kernels for each number of a kernel must there be before a basis of their own pays
Basis = tuple[int, int, bool]  # kernel height and width, depthwise


@dataclass(frozen=True)
class WeightLayer:
    """One layer whose weight is stored as sums of references.

    Attributes:
        name: of the module.
        basis: which basis its kernels share; None: each number is a unit.
    """

    name: str
    module: nn.Conv2d | nn.Linear
    basis: Basis | None

    @property
    def groups(self) -> int:
        """Groups that do not see one another's inputs."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1

    @property
    def terms(self) -> int:
        """Numbers a unit, T."""
        return self.basis[0] * self.basis[1] if self.basis else 1

    @property
    def tensor_name(self) -> str:
        """Of the weight in the state dict."""
        return f"{self.name}.weight" if self.name else "weight"

    def matrix(self, weight: Tensor) -> Tensor:
        """Return a weight as (G, R, n)."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)


def weight_layers(model: nn.Module) -> list[WeightLayer]:
    """Return the layers, in the order of registration; a weight that several modules share comes once."""
    found: list[tuple[str, nn.Conv2d | nn.Linear]] = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        plain = isinstance(module, nn.Linear) or (type(module) is nn.Conv2d)
        if plain and id(module.weight) not in seen and module.weight.is_floating_point() and module.weight.numel():
            seen.add(id(module.weight))
            found.append((name, module))
    kernels: dict[Basis, int] = {}
    for _, module in found:
        if (key := _basis_key(module)) is not None:
            kernels[key] = kernels.get(key, 0) + module.weight.shape[0] * module.weight.shape[1]
    worth = {key for key, count in kernels.items() if count >= KERNELS_A_TERM * key[0] * key[1]}
    return [WeightLayer(n, m, key if (key := _basis_key(m)) in worth else None) for n, m in found]


def patches(layer: WeightLayer, inputs: Tensor) -> Iterator[Tensor]:
    """Yield what a layer multiplies its weight with, in pieces of (G, N, n).

    Numbers of a patch lie as in memory, rows of the window × columns × channels, so that cutting patches out of images
    in channels-last order copies whole runs; `patch_order` says where those of a weight's row are.

    Args:
        inputs: (B, C, H, W) of a convolution, (…, n) of a linear layer.
    """
    module = layer.module
    if isinstance(module, nn.Linear):
        yield inputs.reshape(1, -1, inputs.shape[-1])
        return
    padded_BHWC = _padded(module, inputs).permute(0, 2, 3, 1).contiguous()
    windows = padded_BHWC
    for axis, (k, d, s) in enumerate(zip(module.kernel_size, module.dilation, module.stride, strict=True), start=1):
        windows = windows.unfold(axis, d * (k - 1) + 1, s)[..., ::d]  # a view: (B, H, W, C, kernel rows, columns)
    grouped = windows.unflatten(3, (layer.groups, -1)).permute(3, 0, 1, 2, 5, 6, 4)
    each = max(1, PATCH_NUMBERS // max(1, grouped[:, :1].numel()))
    for piece in grouped.split(each, dim=1):
        yield piece.reshape(layer.groups, math.prod(piece.shape[1:4]), -1)


def products(layer: WeightLayer, inputs: Tensor) -> Tensor:
    """Return what a layer's weight makes of each patch, without the bias, (G, N, R)."""
    output = layer.module(inputs)
    if isinstance(layer.module, nn.Conv2d):
        output = output.movedim(1, -1)
    if layer.module.bias is not None:
        output = output - layer.module.bias
    return output.reshape(-1, layer.groups, output.shape[-1] // layer.groups).transpose(0, 1)


def patch_order(layer: WeightLayer) -> Tensor:
    """Return where in a patch each number of a weight's row is, (n,)."""
    shape = layer.module.weight.shape[1:]  # (channels, rows, columns), or (n,)
    places = torch.arange(math.prod(shape))
    return places.reshape(*shape[1:], shape[0]).movedim(-1, 0).flatten() if len(shape) == 3 else places


def _padded(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    if isinstance(module.padding, str):
        totals = [d * (k - 1) if module.padding == "same" else 0
                  for d, k in zip(module.dilation, module.kernel_size, strict=True)]  # fmt: skip
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(p, p) for p in module.padding]
    flat = [number for pair in reversed(sides) for number in pair]
    return F.pad(inputs, flat, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)


def _basis_key(module: nn.Module) -> Basis | None:
    if not isinstance(module, nn.Conv2d) or math.prod(module.kernel_size) == 1:
        return None
    return (*module.kernel_size, module.weight.shape[1] == 1 and module.groups > 1)  # type: ignore[return-value]
