"""What a layer sees: second moments of its inputs, in the network as stored so far and beside the float one."""

from __future__ import annotations

import torch
from torch import Tensor

from mess.scheme.learned.layers import WeightLayer, patch_order, patches
from mess.scheme.learned.passes import Passes

FEWEST_INPUTS = 256  # however many patches each of them gives
PATCHES_A_NUMBER = 128  # patches for each number of a row are enough; all inputs where they do not give so many
DAMPING = 1e-2  # of the mean diagonal: how far a target may leave the float weights for the sake of few inputs
FLOAT32_TERMS = 1 << 16  # summed in float32 before they go on in float64


def input_moments(stored: Passes, original: Passes, layer: WeightLayer) -> tuple[Tensor, Tensor]:
    """Return (H, C), both (G, n, n) float64: means of x xᵀ and of x yᵀ.

    Args:
        stored: through the network whose layers before this one are settled; x are the patches `layer` sees there.
        original: through the float network; y are the patches that the same layer sees there.
    """
    moment, cross = _Sum(), _Sum()
    looked_at = 0
    for place, batch in enumerate(stored.batches):
        if looked_at >= FEWEST_INPUTS and moment.terms >= PATCHES_A_NUMBER * moment.size:
            break
        looked_at += len(batch)
        pairs = zip(stored.inputs(place, layer.name), original.inputs(place, layer.name), strict=True)
        with torch.inference_mode():
            for x, y in pairs:
                for x_GNn, y_GNn in zip(patches(layer, x), patches(layer, y), strict=True):
                    moment.add(x_GNn, x_GNn)
                    cross.add(x_GNn, y_GNn)
    order_n = patch_order(layer)
    return moment.mean(order_n), cross.mean(order_n)


def asymmetric_target(weight_GRn: Tensor, moment_Gnn: Tensor, cross_Gnn: Tensor) -> Tensor:
    """Return the weights that make up best for what rounding did to the inputs: argmin_V E‖V·x − W·y‖² (+ damping).

    V = W·(C + δI)ᵀ(H + δI)⁻¹, so V = W where the inputs have not changed.
    """
    damp = DAMPING * moment_Gnn.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    right = cross_Gnn @ weight_GRn.mT + damp * weight_GRn.mT
    left = moment_Gnn.clone()
    left.diagonal(dim1=1, dim2=2).add_(damp)
    return torch.linalg.solve(left, right).mT


class _Sum:
    """Σ x yᵀ over patches, (G, n, n): products in float32, which are added up in float64 before rounding tells."""

    def __init__(self) -> None:
        self.terms = self.size = 0
        self._total = torch.zeros((), dtype=torch.float64)
        self._recent: Tensor | None = None
        self._recent_terms = 0

    def add(self, x_GNn: Tensor, y_GNn: Tensor) -> None:
        if self._recent is None:
            self._recent = x_GNn.mT @ y_GNn
        else:
            self._recent.baddbmm_(x_GNn.mT, y_GNn)
        self.size = x_GNn.shape[2]
        self.terms += x_GNn.shape[1]
        self._recent_terms += x_GNn.shape[1]
        if self._recent_terms >= FLOAT32_TERMS:
            self._flush()

    def mean(self, order_n: Tensor) -> Tensor:
        """Return the mean over patches, float64, with rows and columns in this order."""
        self._flush()
        return self._total[:, order_n[:, None], order_n].clone() / self.terms

    def _flush(self) -> None:
        if self._recent is not None:
            self._total = self._total + self._recent.double()
        self._recent, self._recent_terms = None, 0
