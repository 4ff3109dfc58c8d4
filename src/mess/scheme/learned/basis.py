"""References that span all kernels of a size: their eigen-kernels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mess.scheme.learned.layers import Basis

BASIS_BITS = 12


def shared_bases(weights: Iterable[tuple[Tensor, Basis | None]]) -> dict[Basis, Tensor]:
    """Return for each kind of kernel its T eigen-kernels, (T, T) float64, the strongest first.

    These are the eigenvectors of the kernels' second moment, each layer's kernels scaled to a mean square of 1 so that
    every layer has a say. In their coordinates a kernel's numbers are uncorrelated, so rounding them one by one wastes
    little; one basis for a whole network does as well as one a layer, and takes no room. Rounded to the 12 bits that
    the file keeps.

    Args:
        weights: each with the kind of its kernels, or None.
    """
    moments: dict[Basis, Tensor] = {}
    for weight, key in weights:
        if key is None:
            continue
        kernels_NT = weight.detach().cpu().double().reshape(-1, key[0] * key[1])
        kernels_NT = kernels_NT / kernels_NT.square().mean().sqrt().clamp_min(1e-30)
        moments[key] = moments.get(key, torch.zeros(())) + kernels_NT.T @ kernels_NT
    return {key: _rounded(_signed(torch.linalg.eigh(m).eigenvectors.T.flip(0))) for key, m in moments.items()}


def basis_step(basis_TT: Tensor) -> float:
    """Return the step that the references are rounded to."""
    return float((basis_TT.abs().max() / (2 ** (BASIS_BITS - 1) - 1)).float())


def _signed(basis_TT: Tensor) -> Tensor:
    """Fix the sign of each reference: its largest number is positive (the library's choice varies)."""
    largest = basis_TT.gather(1, basis_TT.abs().argmax(1, keepdim=True))
    return basis_TT * torch.where(largest < 0, -1.0, 1.0)


def _rounded(basis_TT: Tensor) -> Tensor:
    step = basis_step(basis_TT)
    return (torch.round(basis_TT / step).float() * torch.tensor(step, dtype=torch.float32)).double()
