"""What a BatchNorm layer computes when it is in use: x·scale + shift."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEAD = 1e-12  # variance of an input that does not vary; a living one's, below ε = 1e-5 too, is far above


def scale_and_shift(
    weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, *, dead: float = -math.inf
) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,), float64; the scale is 0 where the variance is below `dead`."""
    weight, bias, mean, var = (part.detach().double() for part in (weight, bias, mean, var))
    scale = torch.where(var < dead, 0.0, weight / torch.sqrt(var + eps))
    return scale, bias - mean * scale
