"""What errors of one row cost together: the second moment of an input's gradients, summed over all places.

A kernel's error comes back at every place of an image, and what it does there adds up before it is squared. Counting
places apart, as the second moment of patches does, says of a deep layer a tenth of what its errors cost, and not which.
The Gauss-Newton matrix of a layer is taken as a product of two, of rows and of columns, as in YAQA (Tseng et al. 2025,
arXiv 2505.22988); this is the one of columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mess.scheme.learned.calls import Call
from mess.scheme.learned.layers import WeightLayer, patch_order, patches
from mess.scheme.learned.step_sizes import best_share

MIXTURES = 16  # of an input's rows that are looked at: with random signs they say on average what all rows do
MAX_COLUMNS = 2304  # numbers a row, beyond which the matrices of all layers at once would be the most in memory


@dataclass
class Curvature:
    """Σ over rows r of E[G_rᵀ·G_r], with G_r the gradient of one input's answer by row r of a weight.

    Attributes:
        halves_2Gnn: of every other input and of those between, float32.
        inputs: that were looked at.
    """

    halves_2Gnn: Tensor
    inputs: int

    def times(self, factor: float) -> Curvature:
        """Return a copy of that many times as much."""
        return Curvature(self.halves_2Gnn * factor, self.inputs)

    @property
    def halves(self) -> list[Tensor]:
        """The means over two halves of the inputs, of one where there is nothing to halve, (G, n, n)."""
        counts = ((self.inputs + 1) // 2, self.inputs // 2)
        return [sum_Gnn / count for sum_Gnn, count in zip(self.halves_2Gnn, counts, strict=True) if count]


class CurvatureSums:
    """Looks at products and the gradients that come back to them."""

    def __init__(self, layers: list[WeightLayer], seed: int) -> None:
        self.found: dict[str, Curvature] = {}
        self._weights = {x.name: x.weight for x in layers if x.calls == 1 and x.weight[0].numel() <= MAX_COLUMNS}
        self._draw = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def add(self, name: str, call: Call, gradient: Tensor) -> None:
        """Look at one product.

        Args:
            gradient: of a drawn answer by what came out, (B, O, …).
        """
        if name not in self._weights or call.input.dim() != call.dimensions + 2 or gradient[0, 0].numel() < 2:
            return  # at a single place it is the second moment of what is seen there
        gradient_GBRP = gradient.flatten(2).unflatten(1, (call.groups, -1)).transpose(0, 1)
        rows, places = gradient_GBRP.shape[2:]
        if rows > MIXTURES:
            signs_MR = torch.randint(0, 2, (MIXTURES, rows), generator=self._draw) * 2.0 - 1
            gradient_GBRP = (signs_MR / math.sqrt(MIXTURES)).to(gradient) @ gradient_GBRP
        if name not in self.found:
            size = self._weights[name][0].numel()
            self.found[name] = Curvature(gradient.new_zeros(2, call.groups, size, size), 0)
        sums, start = self.found[name], 0
        for x_GNn in patches(call):
            x_GBPn = x_GNn.unflatten(1, (-1, places))
            of_rows_GBRn = gradient_GBRP[:, start : start + x_GBPn.shape[1]] @ x_GBPn
            start += x_GBPn.shape[1]
            for half, sum_Gnn in enumerate(sums.halves_2Gnn):
                of_half_GNn = of_rows_GBRn[:, (half + sums.inputs) % 2 :: 2].flatten(1, 2)
                sum_Gnn.baddbmm_(of_half_GNn.mT, of_half_GNn)
            sums.inputs += x_GBPn.shape[1]

    def ordered(self) -> dict[str, Curvature]:
        """Return what was found, with a row's numbers in the order of the weight; not of layers that change nothing."""
        for name, sums in self.found.items():
            order_n = patch_order(self._weights[name])
            sums.halves_2Gnn = sums.halves_2Gnn[:, :, order_n[:, None], order_n]
        return {name: sums for name, sums in self.found.items() if bool(sums.halves_2Gnn.any())}


def with_curvature(own_Gnn: Tensor, curvature: Curvature, sensitivity_GR: Tensor) -> Tensor:
    """Return H so that g_r·H is what errors of row r cost, (G, n, n).

    The second moment of patches is known better where there are few inputs: H is as much of it as makes one half of the
    inputs tell best what rounding costs on the other.

    Args:
        own_Gnn: second moment of patches, whose memory is used.
        curvature: in the same coordinates.
    """
    rows_G11 = sensitivity_GR.sum(1)[:, None, None]
    halves = [half_Gnn.double() / rows_G11 for half_Gnn in curvature.halves]
    apart, together = ((x_Gnn.diagonal(dim1=1, dim2=2) * rows_G11[..., 0]).sum() for x_Gnn in (own_Gnn, halves[0]))
    own_Gnn.mul_(together / apart)
    share = best_share(lambda share: halves[0].lerp(own_Gnn, share), halves)
    whole_Gnn = halves[0].add_(halves[1]).div_(2) if halves[1:] else halves[0]
    return own_Gnn.lerp_(whole_Gnn, 1 - share)
