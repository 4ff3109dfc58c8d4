"""Two terms for the loss that make references worth more; both act on the reference units G (K, U)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-4  # singular value over all of them
EPSILON = 4 * torch.finfo(torch.float32).eps  # of a unit's length: below this a deviation from the mean is rounding


def reference_penalty(references: list[Tensor], nuclear: float, pearson: float) -> Tensor | None:
    """Return the sum of both penalties over groups of references, or None where both scales are 0."""
    terms = [nuclear_penalty(refs_KU, nuclear) for refs_KU in references if nuclear]
    terms += [pearson_penalty(refs_KU, pearson) for refs_KU in references if pearson]
    return torch.stack(terms).sum() if terms else None


def nuclear_penalty(refs_KU: Tensor, scale: float) -> Tensor:
    """Return scale / ‖G‖_*: references that span more have a larger nuclear norm (the sum of singular values)."""
    refs_KU = refs_KU.float()
    # a GPU would be waited for until singular values are found; on a CPU these take half the time
    norm = singular_values(refs_KU).sum() if refs_KU.device.type == "cpu" else nuclear_norm(refs_KU)
    return scale / norm.clamp_min(1e-12)


def singular_values(matrix_KU: Tensor) -> Tensor:
    """Return them, the largest first."""
    return torch.linalg.svdvals(matrix_KU)


def nuclear_norm(matrix_KU: Tensor) -> Tensor:
    """Return the sum of singular values, by products alone: ⟨G, UVᵀ⟩, whose gradient is UVᵀ where the rank is full.

    The orthogonal factor UVᵀ comes from Newton and Schulz's iteration with scaled steps (Chen and Chow 2014). Singular
    values from `SMALLEST` of ‖G‖_F on are right to 1e-6, UVᵀ to 1e-3; smaller ones count for less than they are.
    """
    with torch.no_grad():
        factor_KU = matrix_KU / matrix_KU.norm().clamp_min(1e-30)
        for linear, cubic in STEPS:
            gram_UU = factor_KU.T @ factor_KU
            factor_KU = torch.addmm(factor_KU, factor_KU, gram_UU, beta=linear, alpha=cubic)
    return (matrix_KU * factor_KU).sum()


def _scaled_steps(lowest: float) -> list[tuple[float, float]]:
    """Return (a, b) of each step x → a·x + b·x³, until what was `lowest` is 1 in float32."""
    steps = []
    while 1 - lowest > EPSILON:
        square = 3 / (1 + lowest + lowest * lowest)
        steps.append((1.5 * square**0.5, -0.5 * square**1.5))
        lowest *= 0.5 * square**0.5 * (3 - square * lowest * lowest)
    return steps


STEPS = _scaled_steps(SMALLEST)


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
