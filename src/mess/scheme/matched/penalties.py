"""Two terms for the loss that make references worth more; both act on the reference units G (K, U)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 4 * torch.finfo(torch.float32).eps  # of a unit's length: below this a deviation from the mean is rounding


def reference_penalty(references: list[Tensor], nuclear: float, pearson: float) -> Tensor | None:
    """Return the sum of both penalties over groups of references, or None where both scales are 0."""
    terms = [nuclear_penalty(refs_KU, nuclear) for refs_KU in references if nuclear]
    terms += [pearson_penalty(refs_KU, pearson) for refs_KU in references if pearson]
    return torch.stack(terms).sum() if terms else None


def nuclear_penalty(refs_KU: Tensor, scale: float) -> Tensor:
    """Return scale / ‖G‖_*: references that span more have a larger nuclear norm (the sum of singular values)."""
    return scale / torch.linalg.svdvals(refs_KU.float()).sum().clamp_min(1e-12)


def pearson_penalty(refs_KU: Tensor, scale: float) -> Tensor:
    """Return scale · mean over i < j of ρ_ij², with ρ_ij Pearson's correlation of reference units i and j.

    A constant unit correlates with none: one whose deviation from its mean is no more than float32's rounding of its
    numbers. One product of K×U matrices, no loop over pairs.
    """
    refs_KU = refs_KU.float()
    count = len(refs_KU)
    if count < 2:
        return refs_KU.sum() * 0
    centred_KU = refs_KU - refs_KU.mean(1, keepdim=True)
    square_K = centred_KU.square().sum(1, keepdim=True)
    varies_K = square_K > (EPSILON * refs_KU.detach()).square().sum(1, keepdim=True)
    unit_KU = (centred_KU / square_K.masked_fill(~varies_K, 1).sqrt()).masked_fill(~varies_K, 0)
    correlation_KK = unit_KU @ unit_KU.T
    pairs = correlation_KK.square().sum() - correlation_KK.diagonal().square().sum()
    return scale * pairs / (count * (count - 1))
