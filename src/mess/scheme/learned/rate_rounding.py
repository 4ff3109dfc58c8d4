"""Rounding a layer to integers by what they spoil and what they cost, passing each error on to what is still to come.

The column-by-column order and the error feedback through the Cholesky factor of the inverse second moment are those of
GPTQ (Frantar et al. 2022, arXiv 2210.17323); choosing by distortion plus λ·bits, as CERWU does (arXiv 2505.18758), is
what makes the integers cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

DAMPING = 1e-3  # of the mean diagonal, so that inputs that never vary do not divide by zero
# Step over the one that is optimal at high rates: at 1 to 3 bits a weight a larger step, with more zeros, is better.
COARSENESS = 2.0
LARGEST = 16383
TRIED_ROWS = 32  # to find a step with
FARTHEST = 6  # half octaves from the usual step
PASSES = 2
BLOCK = 64
STEPS_DOWN_4 = np.array([0, 1, 2, np.inf])[:, None, None]  # from the nearest integer: it, the next two, and zero
SMOOTHING = 0.3  # added to counts: an integer that has not been seen can be chosen, at a price


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


def layer_step(problem: RoundingProblem, lmbda: float) -> float:
    """Return the step of a layer: for uniform errors, D = g·c·s²/24 and dD/dR = −λ give s² = 12λ/(ln 2·g·c).

    Args:
        lmbda: λ, distortion that one bit is worth.
    """
    logs = problem.cost_Gn.log().mean() + problem.sensitivity_GR.log().mean()
    return COARSENESS * math.sqrt(12 * lmbda / math.log(2) * math.exp(-float(logs)))


def best_step(problem: RoundingProblem, lmbda: float) -> float:
    """Return the step at which some of the rows, rounded, lose and cost the least.

    Where columns differ much, or most of a layer is zeros, no formula knows it.
    """
    usual = layer_step(problem, lmbda)
    every = max(1, problem.target_GRn.shape[1] // TRIED_ROWS)
    some = replace(
        problem,
        target_GRn=problem.target_GRn[:, ::every].contiguous(),
        sensitivity_GR=problem.sensitivity_GR[:, ::every].contiguous(),
    )

    @cache
    def cost(half_octaves: int) -> float:
        step = usual * 2 ** (half_octaves / 2)
        integers, wanted = round_layer(some, step, lmbda)
        squares_GRn = problem.cost_Gn[:, None] * ((wanted - integers) * step).square()
        lost = 0.5 * (some.sensitivity_GR[..., None] * squares_GRn).sum()
        units = integers.reshape(-1, problem.terms)
        largest = int(integers.abs().max()) + 1
        bits_TA = code_lengths(units, largest)
        bits = bits_TA.gather(1, units.T.long() + largest).sum()
        return float(lost + lmbda * bits)

    best = 0
    for direction in (-1, 1):
        while abs(best) < FARTHEST and cost(best + direction) < cost(best):
            best += direction
        if best:
            break
    return usual * 2 ** (best / 2)


def code_lengths(integers_GRIT: Tensor, largest: int) -> Tensor:
    """Return bits of each integer −largest … largest by term, (T, 2·largest + 1): −log₂ of how frequent it is."""
    terms = integers_GRIT.shape[-1]
    index = integers_GRIT.clamp(-largest, largest).long() + largest
    flat = index.reshape(-1, terms) + torch.arange(terms) * (2 * largest + 1)
    counts_TA = (
        torch.bincount(flat.flatten(), minlength=terms * (2 * largest + 1)).reshape(terms, -1).double() + SMOOTHING
    )
    return -(counts_TA / counts_TA.sum(1, keepdim=True)).log2()


def round_layer(problem: RoundingProblem, step: float, lmbda: float) -> tuple[Tensor, Tensor]:
    """Return integers and the (unrounded) multiples of the step they stand for, both (G, R, n).

    Every number takes the integer q that minimises g·c·(w − q·s)²/2 + λ·bits(q), among the nearest, the next two
    towards zero, and zero; its error is then made up for by the numbers of the row that follow. Bits are those of the
    integers of the pass before, by term.
    """
    target_GRn, terms = problem.target_GRn, problem.terms
    integers = torch.round(target_GRn / step).clamp(-LARGEST, LARGEST)
    wanted = torch.zeros_like(integers)
    for _ in range(PASSES):
        largest = int(min(integers.abs().max().item() + 1, LARGEST))
        bits_TA = lmbda * code_lengths(integers.reshape(-1, integers.shape[-1] // terms, terms), largest)
        integers, wanted = _one_pass(problem, bits_TA, step)
    return integers, wanted


def _one_pass(problem: RoundingProblem, bits_TA: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Return integers and what they were rounded from, column after column.

    A column's few numbers make many small operations, whose calls cost NumPy a tenth of what they cost torch; errors
    reach the columns beyond a block in one product, as GPTQ's lazy batches do.
    """
    terms, largest = bits_TA.shape[0], bits_TA.shape[1] // 2
    upper_Gnn = problem.upper_Gnn
    rest = (problem.target_GRn / step).permute(2, 0, 1).contiguous()  # (n, G, R): a column lies in one piece
    rest_nGR, bits = rest.numpy(), bits_TA.numpy()
    size = len(rest)
    own_nG1 = upper_Gnn.diagonal(dim1=1, dim2=2).T.contiguous().numpy()[:, :, None]
    reach_nnG1 = upper_Gnn.permute(1, 2, 0).numpy()[..., None]
    weight_nGR = (problem.sensitivity_GR * (0.5 * step * step)).numpy() * problem.cost_Gn.T.numpy()[:, :, None]
    integers_nGR, errors = np.empty_like(rest_nGR), torch.empty(BLOCK, *rest.shape[1:], dtype=rest.dtype)
    errors_BGR = errors.numpy()
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        for j in range(start, end):
            w_GR = rest_nGR[j]
            q_GR = integers_nGR[j] = _cheapest(w_GR, weight_nGR[j], bits[j % terms], largest)
            error_GR = errors_BGR[j - start] = (w_GR - q_GR) / own_nG1[j]
            rest_nGR[j + 1 : end] -= reach_nnG1[j, j + 1 : end] * error_GR
        reach_GmB = upper_Gnn[:, start:end, end:].mT
        rest[end:] -= (reach_GmB @ errors[: end - start].transpose(0, 1)).transpose(0, 1)
    return torch.from_numpy(integers_nGR).permute(1, 2, 0), rest.permute(1, 2, 0)


def _cheapest(w_GR: np.ndarray, weight_GR: np.ndarray, bits_A: np.ndarray, largest: int) -> np.ndarray:
    nearest = np.rint(w_GR)
    size_4GR = np.maximum(np.abs(nearest) - STEPS_DOWN_4, 0)
    choices_4GR = np.copysign(np.minimum(size_4GR, largest), nearest)
    cost_4GR = weight_GR * np.square(w_GR - choices_4GR) + bits_A[choices_4GR.astype(np.intp) + largest]
    return np.take_along_axis(choices_4GR, cost_4GR.argmin(0)[None], 0)[0]


def round_alone(values_OC: Tensor, sensitivity_O: Tensor, *, step: float, lmbda: float) -> tuple[Tensor, Tensor]:
    """Return integers and the multiples of the step they stand for, (O, C), where nothing is known of the inputs.

    As `round_layer` with a second moment of 1, but all numbers at once, as no error is passed on.
    """
    wanted_OC = (values_OC / step).double()
    integers = torch.round(wanted_OC).clamp(-LARGEST, LARGEST)
    weight_OC = (sensitivity_O[:, None] * (0.5 * step * step)).expand_as(wanted_OC)
    for _ in range(PASSES):
        largest = int(min(integers.abs().max().item() + 1, LARGEST))
        bits_A = lmbda * code_lengths(integers[..., None], largest)[0]
        integers = torch.from_numpy(_cheapest(wanted_OC.numpy(), weight_OC.numpy(), bits_A.numpy(), largest))
    return integers, wanted_OC
