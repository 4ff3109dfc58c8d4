"""How coarse the numbers of each row, column and term may be: in proportion to what rounding them costs.

Bits are spent best where all numbers lose the same, g·c·s² = const: reverse water-filling. One step a layer takes half
the logarithm of the arithmetic over the geometric mean of g·c more bits a number (WaterSIC, arXiv 2603.04956). What a
column costs is told by other inputs than those that its errors are passed on by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mess.arithmetic.step_exponents import MAX_EXPONENT, MIN_EXPONENT, Exponents, steps_of
from mess.scheme.learned.moments import Moments, shrink_second_moment_
from mess.scheme.learned.rounding import RoundingProblem, inverse_cholesky_

SHARES = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.003, 0.001)  # how far H may be shrunk
FEW, MIDDLE, FINE = 0, 3, 7  # of these: where to begin to look for the best one, which is seldom far
MANY = 32  # patches for each number of a row in half of the inputs: the best share is nearly always the least
DOUBT = 128  # inputs at which estimated differences between rows are shrunk to a half
PLENTY = 256  # patches for each number of a row in half of the inputs, from which on H is taken as it is


def shrinkage(halves: list[Moments]) -> float:
    """Return how far to shrink H, from its halves."""
    one = halves[0]
    if len(halves) > 1 and one.count >= PLENTY * one.own_Gnn.shape[1]:
        return SHARES[-1]

    def shrunk(share: float) -> Tensor:
        second_moment_Gnn = one.own_Gnn.clone()
        shrink_second_moment_(second_moment_Gnn, share)
        return second_moment_Gnn

    known = one.count / one.own_Gnn.shape[1]
    return best_share(shrunk, [half.own_Gnn for half in halves], FEW if known < 1 else FINE if known > MANY else MIDDLE)


def best_share(made: Callable[[float], Tensor], halves: list[Tensor], start: int = MIDDLE) -> float:
    """Return the share of what is known better in H with which errors cost the least elsewhere.

    What is left of the first half's directions of no variance, errors flow into; the second half says what that costs.

    Args:
        made: share → H of the first half, (G, n, n).
        halves: H of the first half, and of the second if there is one.
        start: number of the share to begin with; from there on neighbours are tried, for as long as they are better.
    """
    if len(halves) == 1:
        return SHARES[0]
    found: dict[int, float] = {}

    def lost(number: int) -> float:
        if number not in found:
            try:
                upper_Gnn = inverse_cholesky_(made(SHARES[number]))
            except torch.linalg.LinAlgError:  # sums in float32 left less than no variance in some direction
                found[number] = math.inf
            else:
                found[number] = float(column_costs(upper_Gnn, halves[1]).log().mean())
        return found[number]

    best = start
    while best + 1 < len(SHARES) and lost(best + 1) <= lost(best) < math.inf:
        best += 1
    while best <= start and best > 0 and lost(best - 1) < lost(best):
        best -= 1
    return SHARES[best]


def column_costs(upper_Gnn: Tensor, second_moment_Gnn: Tensor) -> Tensor:
    """Return what squared errors of 1 cost with this feedback where the second moment is H, (G, n).

    An error z of column j comes out as e = z/u_jj·U_j, so e·H·eᵀ = z²·(U·H·Uᵀ)_jj/u_jj².
    """
    products_Gn = (upper_Gnn @ second_moment_Gnn).mul_(upper_Gnn).sum(2)
    return products_Gn.clamp_min(1e-12) / upper_Gnn.diagonal(dim1=1, dim2=2).square()


def fitted_exponents(cost_Gn: Tensor, sensitivity_GR: Tensor, terms: int, inputs: int) -> Exponents:
    """Return the exponents whose sums are nearest to log₂ of 1/√(g·c), in quarter octaves about their mean.

    Args:
        inputs: that the sensitivities are estimated from; of few inputs they are noise.
    """
    trust = inputs / (inputs + DOUBT)
    own_GCT = -2 * cost_Gn.log2().unflatten(1, (-1, terms))
    row_GR = own_GCT.mean((1, 2))[:, None] - 2 * trust * sensitivity_GR.log2()
    numbers = row_GR.numel() * own_GCT[0].numel()
    axes = (row_GR.flatten(), own_GCT.mean((0, 2)), own_GCT.mean((0, 1)))
    return Exponents(*(_worth(quarters_N, numbers) for quarters_N in axes))


def of_span(exponents: Exponents, span: slice, terms: int) -> Exponents:
    """Return those of a part of a row, which is of whole units."""
    columns_C = exponents.columns_C
    if columns_C is None:
        return exponents
    return exponents._replace(columns_C=columns_C[span.start // terms : span.stop // terms])


def in_steps(problem: RoundingProblem, exponents: Exponents) -> RoundingProblem:
    """Return the same problem for numbers that are counted in their own steps, in the same memory.

    With D the factors of the columns, rounding W of second moment H is rounding W·D⁻¹ of D·H·D, whose U is U·D⁻¹.
    """
    target_GRn, sensitivity_GR = problem.target_GRn, problem.sensitivity_GR
    if exponents.rows_R is not None:
        row_GR = _factors(Exponents(rows_R=exponents.rows_R)).reshape(sensitivity_GR.shape)
        target_GRn, sensitivity_GR = target_GRn.div_(row_GR[..., None]), sensitivity_GR * row_GR.square()
    column_1CT = _factors(exponents._replace(rows_R=None))
    column_n = column_1CT.expand(1, target_GRn.shape[2] // problem.terms, problem.terms).flatten()
    return replace(
        problem,
        target_GRn=target_GRn.div_(column_n),
        upper_Gnn=problem.upper_Gnn.div_(column_n),
        sensitivity_GR=sensitivity_GR,
        cost_Gn=problem.cost_Gn * column_n.square(),
    )


def _factors(exponents: Exponents) -> Tensor:
    return torch.from_numpy(steps_of(1.0, exponents)).double()


def _worth(quarters_N: Tensor, numbers: int) -> np.ndarray | None:
    """Return an axis' exponents where they save more bits of a layer's numbers than they take."""
    whole_N = (quarters_N - quarters_N.mean()).round().clamp(MIN_EXPONENT, MAX_EXPONENT)
    saved = 0.5 * float((-whole_N / 2).exp2().mean().log2() + whole_N.mean() / 2) * numbers
    frequency_N = whole_N.unique(return_counts=True)[1] / len(whole_N)
    taken = -float((frequency_N * frequency_N.log2()).sum()) * len(whole_N)
    return whole_N.to(torch.int64).numpy() if saved > taken else None
