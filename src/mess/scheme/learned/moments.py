"""What a layer sees: second moments of its inputs, in the network as stored so far and beside the float one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mess.errors import RangeError
from mess.scheme.learned.calls import Call
from mess.scheme.learned.layers import WeightLayer, patch_order, patches, places, products
from mess.scheme.learned.layerwise import LayerwiseForward

MIN_INPUTS = 256  # however many patches each of them gives
PATCHES_A_NUMBER = 128  # patches for each number of a row are enough; all inputs where they do not give so many
MIN_PLACES = 16  # of an input that patches are cut out of, if there are so many
PIECE_NUMBERS = 1 << 22  # of a moment that change their basis at once (32 MiB)
FURTHER = (0.003, 0.01, 0.1, 1.0)  # how far H is shrunk, one after the other, until it can be factorised
FLOAT32_TERMS = 1 << 16  # summed in float32 before they go on in float64


@dataclass
class Moments:
    """Means over what a layer saw in one half of the inputs.

    Attributes:
        own_Gnn: of x xᵀ, float64.
        cross_GnR: of x (W·y)ᵀ, float64.
        count: patches.
    """

    own_Gnn: Tensor
    cross_GnR: Tensor
    count: int


def second_moments(
    stored: LayerwiseForward, original: LayerwiseForward, layer: WeightLayer, weight: Tensor
) -> list[list[Moments]]:
    """Return the moments of two halves of the inputs, or of one where there is nothing to halve, for each span.

    Each of `layer.spans` is looked at as a layer of its own: y is what this part of the weight makes of its part of x.

    Args:
        stored: through the network whose layers before this one are settled; x are the patches `layer` sees there.
        original: through the float network; y are the patches that the same layer sees there.
        weight: the layer's float weight W.
    """
    spans, order_n = layer.spans, patch_order(weight)
    sums = [[(_Sum(), _Sum()), (_Sum(), _Sum())] for _ in spans]
    looked_at = total = 0
    inputs = sum(len(batch) for batch in stored.batches)
    number = 0
    for place, batch in enumerate(stored.batches):
        if looked_at >= MIN_INPUTS and total >= PATCHES_A_NUMBER * weight[0].numel():
            break
        looked_at += len(batch)
        pairs = zip(stored.calls(place, layer.name), original.calls(place, layer.name), strict=True)
        with torch.inference_mode():
            for seen, wanted in pairs:
                matched = (
                    ([pair] for pair in _matched(seen, wanted, weight, inputs, place))
                    if len(spans) == 1
                    else _in_spans(seen, wanted, layer.matrix(weight), order_n, spans)
                )
                for pairs_S in matched:
                    # halves of what one batch gives are halves of its inputs, or of its places
                    count = pairs_S[0][0].shape[1]
                    middle = (count + number % 2) // 2
                    for halves, (x_GNn, y_GNR) in zip(sums, pairs_S, strict=True):
                        for half, piece in ((0, slice(0, middle)), (1, slice(middle, None))):
                            own, cross = halves[half ^ (number & 1)]
                            own.add(x_GNn[:, piece], x_GNn[:, piece])
                            cross.add(x_GNn[:, piece], y_GNR[:, piece])
                    total += count
                    number += 1
    if len(spans) > 1:
        # copies, as what is made in inference mode cannot be worked on in place
        return [
            [Moments(own.mean().clone(), cross.mean().clone(), own.terms) for own, cross in halves if own.terms]
            for halves in sums
        ]
    return [
        [
            Moments(own.mean()[:, order_n[:, None], order_n], cross.mean()[:, order_n], own.terms)
            for own, cross in sums[0]
            if own.terms
        ]
    ]


def _matched(seen: Call, wanted: Call, weight: Tensor, inputs: int, place: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield patches and what the float layer answers there; of many places those on a grid, another for each batch."""
    needed = max(MIN_PLACES, PATCHES_A_NUMBER * math.prod(weight.shape[1:]) / min(inputs, MIN_INPUTS))
    side = needed ** (1 / max(1, seen.dimensions))
    every = max(1, int(places(seen) / side)) if seen.dimensions else 1
    first, start = place * 7 % every, 0
    answers_GNR = products(wanted, weight, every, first)
    for x_GNn in patches(seen, every, first):
        end = start + x_GNn.shape[1]
        yield x_GNn, answers_GNR[:, start:end]
        start = end


def _in_spans(
    seen: Call, wanted: Call, weight_GRn: Tensor, order_n: Tensor, spans: list[slice]
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield the same for each part of a row, of all places: wide layers have few, and see as many numbers at each."""
    for x_GNn, float_GNn in zip(patches(seen), patches(wanted), strict=True):
        parts = [(x_GNn[..., order_n[span]], float_GNn[..., order_n[span]], span) for span in spans]
        yield [(x_GNm, float_GNm @ weight_GRn[..., span].mT) for x_GNm, float_GNm, span in parts]


def joined(halves: list[Moments]) -> Moments:
    """Return the moments of all inputs, in the memory of the first half's."""
    first, *others = halves
    for other in others:
        share = other.count / (first.count + other.count)
        first.own_Gnn.mul_(1 - share).add_(other.own_Gnn, alpha=share)
        first.cross_GnR.mul_(1 - share).add_(other.cross_GnR, alpha=share)
        first.count += other.count
    return first


def shrink_(moments: Moments, share: float, weight_GRn: Tensor) -> None:
    """Shrink H towards a multiple of the unit matrix, and what belongs to it, in place: H ← (1 − share)·H + share·μI.

    The cross moment goes along as if the inputs of that part had not changed.
    """
    mean_G = shrink_second_moment_(moments.own_Gnn, share)
    moments.cross_GnR.mul_(1 - share).add_(share * mean_G[:, None, None] * weight_GRn.mT)


def shrink_second_moment_(own_Gnn: Tensor, share: float) -> Tensor:
    """Do this to H alone, in place, and return μ, the mean of its diagonal, (G,)."""
    diagonal_Gn = own_Gnn.diagonal(dim1=1, dim2=2)
    mean_G = diagonal_Gn.mean(1).clamp_min(1e-12)
    own_Gnn.mul_(1 - share)
    diagonal_Gn.add_(share * mean_G[:, None])
    return mean_G


def asymmetric_target(moments: Moments, weight_GRn: Tensor) -> Tensor:
    """Return the weights that make up best for what rounding did to the inputs: argmin_V E‖V·x − W·y‖².

    Vᵀ = H⁻¹·E[x (W·y)ᵀ], both shrunk, so V = W where the inputs have not changed. Where sums in float32 left least
    variances of a wide layer below zero, which inputs with a large mean do, both are shrunk further, in place.

    Raises:
        RangeError: the sums say nothing, however far they are shrunk.
    """
    factor_Gnn, failed_G = torch.linalg.cholesky_ex(moments.own_Gnn)
    for share in FURTHER:
        if not bool(failed_G.any()):
            break
        shrink_(moments, share, weight_GRn)
        factor_Gnn, failed_G = torch.linalg.cholesky_ex(moments.own_Gnn)
    if bool(failed_G.any()):
        raise RangeError("sums of products")
    return torch.cholesky_solve(moments.cross_GnR, factor_Gnn).mT


def change_basis(moments: Moments, basis_TT: Tensor) -> None:
    """Turn x into B·x in place, B the basis in blocks along the diagonal."""
    turn_(moments.own_Gnn, basis_TT)
    _turn_rows_(moments.cross_GnR, basis_TT)


def turn_(moment_Gnn: Tensor, basis_TT: Tensor) -> None:
    """Turn a second moment H into B·H·Bᵀ in place."""
    _turn_rows_(moment_Gnn, basis_TT)
    _turn_rows_(moment_Gnn.mT, basis_TT)


def _turn_rows_(side_Gnm: Tensor, basis_TT: Tensor) -> None:
    terms = len(basis_TT)
    rows = terms * max(1, PIECE_NUMBERS // (terms * side_Gnm[:, 0].numel()))
    for piece_Gpm in side_Gnm.split(rows, dim=1):
        piece_Gpm.copy_((basis_TT.to(piece_Gpm) @ piece_Gpm.unflatten(1, (-1, terms))).flatten(1, 2))


class _Sum:
    """Σ x yᵀ over patches: products in float32, which are added up in float64 before rounding tells."""

    def __init__(self) -> None:
        self.terms = self.size = 0
        self._total = torch.zeros((), dtype=torch.float64)
        self._recent: Tensor | None = None
        self._recent_terms = 0

    def add(self, x_GNn: Tensor, y_GNn: Tensor) -> None:
        if not x_GNn.shape[1]:
            return
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
            if not self.terms:
                return self._total
            mean, self._total = self._total.div_(self.terms), torch.zeros(())
        return mean

    def _flush(self) -> None:
        if self._recent is not None:
            # in place: the largest layers' sums are the most there is in memory
            self._total = self._recent.double() if self._total.dim() == 0 else self._total.add_(self._recent)
        self._recent, self._recent_terms = None, 0
