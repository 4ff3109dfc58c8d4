"""Rounding a layer to integers, each error passed on to what is still to come.

The column-by-column order and the error feedback through the Cholesky factor of the inverse second moment are those of
GPTQ (Frantar et al. 2022, arXiv 2210.17323). A number takes the nearest integer, whatever that costs: choosing by
distortion plus λ·bits, as CERWU does (arXiv 2505.18758), pulls numbers towards zero, and what little it saves is lost
again where a network's layers follow one another. A column of numbers that are large enough is rounded by a trellis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mess.arithmetic.levels import Levels, fitted_levels, trellised
from mess.arithmetic.trellis import QUARTERS
from mess.scheme.learned.viterbi import best_path

DAMPING = 1e-3  # of the mean diagonal, so that inputs that never vary do not divide by zero
LARGEST = 16383  # a trellis has it in quarters
MOST = 12_000  # that a number may be before it is rounded
BLOCK = 64
TRELLISED_FROM = 20  # the context: a mean magnitude of 1/4; smaller numbers are best rounded to zero
TRELLIS_LOSS = 0.788  # squared error over that of rounding at the same step; 8 states (`mess.arithmetic.trellis`)


@dataclass(frozen=True)
class RoundingProblem:
    """What rounding a layer is to lose little by, all float64.

    Attributes:
        target_GRn: the numbers to round, in the coordinates of the basis.
        upper_Gnn: from `inverse_cholesky_`, in the same coordinates: how an error is passed on.
        sensitivity_GR: g, of the network's answers to each row's outputs.
        cost_Gn: c, what a squared error of 1 in a column costs where g is 1, after what follows has made up for it:
            1/u_jj² on the inputs that U was made of.
        terms: T; number j of a row belongs to term j mod T.
    """

    target_GRn: Tensor
    upper_Gnn: Tensor
    sensitivity_GR: Tensor
    cost_Gn: Tensor
    terms: int


def rounded(values_OCT: Tensor) -> Tensor:
    """Return the integers that are stored."""
    return values_OCT.detach().round().clamp(-LARGEST, LARGEST)


def inverse_cholesky_(second_moment_Gnn: Tensor) -> Tensor:
    """Return U, upper triangular with Uᵀ U = H⁻¹, (G, n, n), in the memory of H, which is lost; H is damped first.

    Wide layers have nothing larger in memory than these matrices.
    """
    diagonal_Gn = second_moment_Gnn.diagonal(dim1=1, dim2=2)
    diagonal_Gn.add_(DAMPING * diagonal_Gn.mean(1, keepdim=True).clamp_min(1e-12))
    torch.linalg.cholesky(second_moment_Gnn, out=second_moment_Gnn)
    torch.cholesky_inverse(second_moment_Gnn, out=second_moment_Gnn)
    return torch.linalg.cholesky(second_moment_Gnn, upper=True, out=second_moment_Gnn)


def layer_step(problems: Sequence[RoundingProblem], lmbda: float) -> float:
    """Return the step of a layer: for uniform errors, D = g·c·s²/24 and dD/dR = −λ give s² = 12λ/(ln 2·g·c).

    Args:
        problems: the parts of its rows, which have the same step.
        lmbda: λ, distortion that one bit is worth.
    """
    cost_Gn = torch.cat([problem.cost_Gn for problem in problems], 1)
    logs = cost_Gn.log().mean() + problems[0].sensitivity_GR.log().mean()
    largest = max(float(problem.target_GRn.abs().max()) for problem in problems)
    return coarse_enough(math.sqrt(12 * lmbda / math.log(2) * math.exp(-float(logs))), largest)


def coarse_enough(step: float, largest: float) -> float:
    """Return a step at which no integer is cut off, which costs more than any step, though others' errors are added."""
    return max(step, largest / MOST)


def rounded_in_trellises(problems: Sequence[RoundingProblem], step: float) -> tuple[Tensor, Tensor, float, Levels]:
    """Round a layer with trellises of the numbers that are likely to be large; at the same loss, its steps are wider.

    Returns:
        Integers and what they were rounded from, (G, R, n), both in quarters of a step; such a quarter; and the levels
        that say what was likely to be large.
    """
    integers, _ = round_all(problems, step)
    groups, rows, size = integers.shape
    magnitudes_RCK = integers.abs().reshape(groups * rows, -1, problems[0].terms).numpy()
    wider, levels, trellised_RCK = trellises_for(magnitudes_RCK)
    trellised_nGR = np.ascontiguousarray(trellised_RCK.reshape(groups, rows, size).transpose(2, 0, 1))
    integers, wanted = round_all(problems, step * wider, trellised_nGR)
    return QUARTERS * integers, QUARTERS * wanted, step * wider / QUARTERS, levels


def trellises_for(magnitudes_RCK: np.ndarray, gained: float = 1.0) -> tuple[float, Levels, np.ndarray]:
    """Return by how much wider steps lose no more, once numbers that are likely to be large are steps of trellises.

    Args:
        magnitudes_RCK: of integers that were rounded one by one.
        gained: share of what a long trellis gains.

    Returns:
        The factor of steps, the levels that say what is likely to be large, and which numbers are, (R, C, K) bool.
    """
    levels = fitted_levels(magnitudes_RCK)._replace(trellised_from=TRELLISED_FROM)
    share = float(trellised(levels, *magnitudes_RCK.shape[:2]).mean())
    wider = (1 - gained * (1 - TRELLIS_LOSS) * share) ** -0.5
    levels = fitted_levels(magnitudes_RCK / wider)._replace(trellised_from=TRELLISED_FROM)
    return wider, levels, trellised(levels, *magnitudes_RCK.shape[:2])


def round_all(
    problems: Sequence[RoundingProblem], step: float, trellised_nGR: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """Round the parts of a row, which have nothing to do with one another, and return what `round_layer` does."""
    found, start = [], 0
    for problem in problems:
        end = start + problem.target_GRn.shape[2]
        found.append(round_layer(problem, step, None if trellised_nGR is None else trellised_nGR[start:end]))
        start = end
    if len(found) == 1:
        return found[0]
    integers, wanted = zip(*found, strict=True)
    return torch.cat(integers, 2), torch.cat(wanted, 2)


def round_layer(
    problem: RoundingProblem, step: float, trellised_nGR: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """Return integers and the (unrounded) multiples of the step they stand for, both (G, R, n).

    A number's error is made up for by the numbers of the row that follow; rows of a column have nothing to do with one
    another, so a trellis goes down them. A column's few numbers make many small operations, whose calls cost NumPy a
    tenth of what they cost torch; errors reach the columns beyond a block in one product, as GPTQ's lazy batches do.

    Args:
        trellised_nGR: which numbers are steps of their column's trellis: they become odd quarters.
    """
    upper_Gnn = problem.upper_Gnn
    rest = (problem.target_GRn / step).permute(2, 0, 1).contiguous()  # (n, G, R): a column lies in one piece
    rest_nGR, size = rest.numpy(), len(rest)
    own_nG1 = upper_Gnn.diagonal(dim1=1, dim2=2).T.contiguous().numpy()[:, :, None]
    reach_nnG1 = upper_Gnn.permute(1, 2, 0).numpy()[..., None]
    sensitivity_GR, cost_nG1 = problem.sensitivity_GR.numpy(), problem.cost_Gn.T.numpy()[:, :, None]
    integers_nGR, errors = np.empty_like(rest_nGR), torch.empty(BLOCK, *rest.shape[1:], dtype=rest.dtype)
    errors_BGR = errors.numpy()
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        for j in range(start, end):
            q_GR = np.clip(np.rint(rest_nGR[j]), -LARGEST, LARGEST, out=integers_nGR[j])
            if trellised_nGR is not None and (there_GR := trellised_nGR[j]).any():
                weight_GR = sensitivity_GR * cost_nG1[j]
                there_N = np.clip(rest_nGR[j][there_GR], -LARGEST, LARGEST)
                q_GR[there_GR] = best_path(there_N, weight_GR[there_GR])
            error_GR = errors_BGR[j - start] = (rest_nGR[j] - q_GR) / own_nG1[j]
            rest_nGR[j + 1 : end] -= reach_nnG1[j, j + 1 : end] * error_GR
        reach_GmB = upper_Gnn[:, start:end, end:].mT
        rest[end:] -= (reach_GmB @ errors[: end - start].transpose(0, 1)).transpose(0, 1)
    return torch.from_numpy(integers_nGR).permute(1, 2, 0), rest.permute(1, 2, 0)
