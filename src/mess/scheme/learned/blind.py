"""Rounding weights of which nothing but the numbers is known: no network to run, so no input to weigh errors by."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mess.arithmetic.trellis import QUARTERS
from mess.scheme.learned.basis import BASIS_BITS, shared_bases
from mess.scheme.learned.layers import Basis, is_matrix, worth_their_bases
from mess.scheme.learned.learn import LearnedLayer
from mess.scheme.learned.rounding import LARGEST, trellises_for
from mess.scheme.learned.viterbi import best_paths

# squared error over the squared weights: finer than 8 bits with one step a tensor, since nothing is looked at
RELATIVE_ERROR = 1e-5
STARTING = 7  # rows, of which a trellis that starts empty gains half of what a long one does


def round_blind(
    weights: Mapping[str, Tensor], finer: Mapping[str, float] | None = None
) -> tuple[dict[str, LearnedLayer], dict[Basis, Tensor]]:
    """Return the matrices among `weights` as integers, each with the same relative error, and their references.

    Every weight of a tensor counts alike: the step follows from s²/12 = relative error · mean square.
    Steps of the tensors in `finer` are smaller by that factor. A matrix whose largest weight is then beyond all
    integers, as it dwarfs the others or as a step is very fine, is left out.
    """
    matrices = {name: weight.detach().cpu() for name, weight in weights.items() if is_matrix(weight)}
    bases = _bases(matrices)
    made = {}
    for name, weight in matrices.items():
        key = kind if (kind := _kernel(weight)) in bases else None
        values_OCT = weight.double().reshape(len(weight), -1, 1) if key is None else _terms(weight, bases[key])
        spread = math.sqrt(12 * RELATIVE_ERROR * float(weight.double().square().mean()))
        step = float(torch.tensor(spread / (finer or {}).get(name, 1.0) or 1.0))
        if float(values_OCT.abs().max()) <= LARGEST * step:
            made[name] = _rounded(values_OCT, step, key, tuple(weight.shape))
    return made, bases


def _bases(matrices: Mapping[str, Tensor]) -> dict[Basis, Tensor]:
    """Return the references of each kind of kernel that saves more bits with them than they take.

    A kernel's T numbers of variances v take Σ ½·log₂(mean v / v_t) bits less where each has its own. Few large kernels,
    as an embedding of positions seems to have, are not worth T² numbers, nor looking for them.
    """
    kinds = worth_their_bases({name: (weight, _kernel(weight)) for name, weight in matrices.items()})
    bases = shared_bases((matrices[name], key) for name, key in kinds.items())
    saved = {key: -float(BASIS_BITS * basis_TT.numel()) for key, basis_TT in bases.items()}
    for name, key in kinds.items():
        if key is None:
            continue
        variance_T = _terms(matrices[name], bases[key]).square().mean((0, 1)).clamp_min(1e-30)
        bits = float((variance_T.mean().log2() - variance_T.log2()).sum()) / 2
        saved[key] += math.prod(matrices[name].shape[:2]) * bits
    return {key: basis_TT for key, basis_TT in bases.items() if saved[key] > 0}


def _terms(weight: Tensor, basis_TT: Tensor) -> Tensor:
    """Return a weight's kernels as multiples of their references, (O, C, T)."""
    return weight.double().reshape(*weight.shape[:2], -1) @ torch.linalg.inv(basis_TT)


def _kernel(weight: Tensor) -> Basis | None:
    """Return the kind of a weight's kernels, as far as a shape tells: whether they go depth by depth it does not."""
    return (weight.shape[2], weight.shape[3], False) if weight.dim() == 4 and weight[0, 0].numel() > 1 else None


def _rounded(values_OCT: Tensor, step: float, basis: Basis | None, shape: tuple[int, ...]) -> LearnedLayer:
    """Round with trellises down the columns, which are as good as steps that are finer by up to an eighth."""
    rows = len(values_OCT)
    magnitudes_OCT = (values_OCT / step).round().abs().numpy()
    wider, levels, trellised_OCT = trellises_for(magnitudes_OCT, rows / (rows + STARTING))
    unrounded_OCT = values_OCT / (step * wider)
    steps_RX = best_paths(unrounded_OCT.reshape(rows, -1).numpy(), trellised_OCT.reshape(rows, -1))
    integers_OCT = torch.from_numpy(QUARTERS * steps_RX).reshape(values_OCT.shape).to(torch.int32)
    quarter = float(torch.tensor(step * wider / QUARTERS))
    return LearnedLayer(integers_OCT, quarter, basis, shape, (QUARTERS * unrounded_OCT).float(), levels=levels)
