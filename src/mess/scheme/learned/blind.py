"""Rounding weights of which nothing but the numbers is known: no network to run, so no input to weigh errors by."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mess.scheme.learned.layers import is_matrix
from mess.scheme.learned.learn import LearnedLayer
from mess.scheme.learned.rounding import LARGEST, rounded

# squared error over the squared weights: finer than 8 bits with one step a tensor, since nothing is looked at
RELATIVE_ERROR = 1e-5


def round_blind(weights: Mapping[str, Tensor], finer: Mapping[str, float] | None = None) -> dict[str, LearnedLayer]:
    """Return the matrices among `weights` as integers, each with the same relative error.

    Every weight of a tensor counts alike: the step follows from s²/12 = relative error · mean square.
    Steps of the tensors in `finer` are smaller by that factor. A matrix whose largest weight is then beyond all
    integers, as it dwarfs the others or as a step is very fine, is left out.
    """
    made = {}
    for name, weight in weights.items():
        if not is_matrix(weight):
            continue
        weight_OC = weight.detach().cpu().double().flatten(1)
        spread = math.sqrt(12 * RELATIVE_ERROR * float(weight_OC.square().mean()))
        step = float(torch.tensor(spread / (finer or {}).get(name, 1.0) or 1.0))
        if float(weight_OC.abs().max()) > LARGEST * step:
            continue
        unrounded_OCT = (weight_OC / step)[..., None]
        integers_OCT = rounded(unrounded_OCT).to(torch.int32)
        made[name] = LearnedLayer(integers_OCT, step, None, tuple(weight.shape), unrounded_OCT)
    return made
