"""Rounding weights of which nothing but the numbers is known: no network to run, so no input to weigh errors by."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mess.scheme.learned.layers import is_matrix
from mess.scheme.learned.learn import LearnedLayer
from mess.scheme.learned.rate_rounding import round_alone

# squared error over the squared weights: finer than 8 bits with one step a tensor, since nothing is looked at
RELATIVE_ERROR = 1e-5


def round_blind(weights: Mapping[str, Tensor], finer: Mapping[str, float] | None = None) -> dict[str, LearnedLayer]:
    """Return the matrices among `weights` as integers, each with the same relative error.

    Every weight of a tensor counts alike: the step follows from s²/12 = relative error · mean square, and integers are
    chosen by error and bits, at the price λ = s²·ln 2/12 that belongs to this step (`rate_rounding.layer_step`).
    Steps of the tensors in `finer` are smaller by that factor.
    """
    made = {}
    for name, weight in weights.items():
        if not is_matrix(weight):
            continue
        weight_OC = weight.detach().cpu().double().flatten(1)
        spread = math.sqrt(12 * RELATIVE_ERROR * float(weight_OC.square().mean()))
        step = float(torch.tensor(spread / (finer or {}).get(name, 1.0) or 1.0))
        lmbda = step * step * math.log(2) / 12
        sensitivity_O = torch.ones(len(weight_OC), dtype=torch.float64)
        integers_OC, unrounded_OC = round_alone(weight_OC, sensitivity_O, step=step, lmbda=lmbda)
        size = (len(weight_OC), -1, 1)
        integers_OCT = integers_OC.reshape(size).to(torch.int32)
        made[name] = LearnedLayer(integers_OCT, step, None, tuple(weight.shape), unrounded_OC.reshape(size))
    return made
