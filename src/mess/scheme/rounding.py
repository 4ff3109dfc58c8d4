"""Kernels rounded to a few bits, one step a layer: version v2q, and retraining with -Q."""

from __future__ import annotations

import torch
from torch import Tensor


def round_to_bits(weight: Tensor, bits: int) -> Tensor:
    """Round a tensor to `bits` bits and back: s = (max − min)/(2^b − 1), q = clip(round(w/s), −2^(b−1), 2^(b−1) − 1).

    A constant tensor has no step and stays as it is. Halves round to even; the arithmetic is float32's.
    """
    numbers = weight.detach().float()
    step = (numbers.max() - numbers.min()) / (2**bits - 1)
    if not bool(step > 0):
        return weight.detach().clone()
    rounded = torch.round(numbers / step).clamp_(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (rounded * step).to(weight.dtype)
