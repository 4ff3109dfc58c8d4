"""What a layer sees: second moments of its inputs, in the network as stored so far and beside the float one."""

from __future__ import annotations

import torch
from torch import Tensor

from mess.scheme.learned.layers import WeightLayer, patch_order, patches, products
from mess.scheme.learned.layerwise import LayerwiseForward

MIN_INPUTS = 256  # however many patches each of them gives
PATCHES_A_NUMBER = 128  # patches for each number of a row are enough; all inputs where they do not give so many
DAMPING = 1e-2  # of the mean diagonal: how far a target may leave the float weights for the sake of few inputs
PIECE_NUMBERS = 1 << 22  # of a moment that change their basis at once (32 MiB)
FLOAT32_TERMS = 1 << 16  # summed in float32 before they go on in float64


def second_moments(stored: LayerwiseForward, original: LayerwiseForward, layer: WeightLayer) -> tuple[Tensor, Tensor]:
    """Return means of x xᵀ, (G, n, n), and of x (W·y)ᵀ, (G, n, R), float64.

    Args:
        stored: through the network whose layers before this one are settled; x are the patches `layer` sees there.
        original: through the float network; y are the patches that the same layer sees there.
        layer: with its float weight W still.
    """
    moment, cross = _Sum(), _Sum()
    looked_at = 0
    for place, batch in enumerate(stored.batches):
        if looked_at >= MIN_INPUTS and moment.terms >= PATCHES_A_NUMBER * moment.size:
            break
        looked_at += len(batch)
        pairs = zip(stored.inputs(place, layer.name), original.inputs(place, layer.name), strict=True)
        with torch.inference_mode():
            for x, y in pairs:
                pieces = patches(layer, x)
                answers_GNR, start = products(layer, y), 0
                for x_GNn in pieces:
                    end = start + x_GNn.shape[1]
                    moment.add(x_GNn, x_GNn)
                    cross.add(x_GNn, answers_GNR[:, start:end])
                    start = end
    order_n = patch_order(layer)
    return moment.mean()[:, order_n[:, None], order_n], cross.mean()[:, order_n]


def asymmetric_target(weight_GRn: Tensor, second_moment_Gnn: Tensor, cross_GnR: Tensor) -> Tensor:
    """Return the weights that make up best for what rounding did to the inputs: argmin_V E‖V·x − W·y‖² (+ damping).

    Vᵀ = (H + δI)⁻¹(E[x (W·y)ᵀ] + δWᵀ), so V = W where the inputs have not changed.
    """
    diagonal_Gn = second_moment_Gnn.diagonal(dim1=1, dim2=2)
    damping = DAMPING * diagonal_Gn.mean().clamp_min(1e-12)
    undamped_Gn = diagonal_Gn.clone()
    diagonal_Gn.add_(damping)
    factor_Gnn = torch.linalg.cholesky(second_moment_Gnn)
    diagonal_Gn.copy_(undamped_Gn)  # rather than a second H in memory
    return torch.cholesky_solve(cross_GnR + damping * weight_GRn.mT, factor_Gnn).mT


def change_basis(second_moment_Gnn: Tensor, basis_TT: Tensor) -> None:
    """Turn H into B·H·Bᵀ in place, B the basis in blocks along the diagonal."""
    terms = len(basis_TT)
    rows = terms * max(1, PIECE_NUMBERS // (terms * second_moment_Gnn[:, 0].numel()))
    for side_Gnn in (second_moment_Gnn, second_moment_Gnn.mT):  # rows, then columns
        for piece_Gmn in side_Gnn.split(rows, dim=1):
            piece_Gmn.copy_((basis_TT @ piece_Gmn.unflatten(1, (-1, terms))).flatten(1, 2))


class _Sum:
    """Σ x yᵀ over patches: products in float32, which are added up in float64 before rounding tells."""

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

    def mean(self) -> Tensor:
        """Return the mean over patches, float64, and forget it."""
        with torch.inference_mode():  # where the sum was made
            self._flush()
            mean, self._total = self._total.div_(self.terms), torch.zeros(())
        return mean

    def _flush(self) -> None:
        if self._recent is not None:
            # in place: the largest layers' sums are the most there is in memory
            self._total = self._recent.double() if self._total.dim() == 0 else self._total.add_(self._recent)
        self._recent, self._recent_terms = None, 0
