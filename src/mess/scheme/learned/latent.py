"""A layer of version 4 while it trains: numbers that round to its integers, and what these cost.

Roundings pass gradients straight through (Bengio et al. 2013, arXiv 1308.3432); the length of a code is linear between
one integer and the next, so that cheaper integers attract.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mess.scheme.learned.rounding import LARGEST, code_lengths

INSIDE = 0.45  # of a step: how near its edge a number may start in the bin that rounding chose for it


@dataclass
class Latent:
    """A layer of its own.

    Attributes:
        values_OCT: multiples of the step; their nearest integers are what is stored.
        log_step: () logarithm of the step.
        basis_TT: rows are references; None: the numbers are the weights.
        shape: of the weight.
        bits_TA: see `lengths`.
    """

    values_OCT: Tensor
    log_step: Tensor
    basis_TT: Tensor | None
    shape: torch.Size
    bits_TA: Tensor

    @classmethod
    def start(
        cls, integers_OCT: Tensor, wanted_OCT: Tensor, step: float, basis_TT: Tensor | None, shape: torch.Size
    ) -> Latent:
        """Begin where rounding ended: in the bin that it chose, on the side where the number came from."""
        values = within(integers_OCT, wanted_OCT).requires_grad_(True)
        log_step = torch.tensor(math.log(step)).requires_grad_(True)
        made = cls(values, log_step, basis_TT.float() if basis_TT is not None else None, shape, torch.zeros(1, 1))
        made.refresh()
        return made

    def integers(self) -> Tensor:
        """Return what is stored, (O, C, T)."""
        return rounded(self.values_OCT)

    def refresh(self) -> None:
        """Look again at how long the codes of the integers are."""
        self.bits_TA = lengths(self.integers())

    def weight(self) -> Tensor:
        """Return the weight that is decoded, differentiable as if nothing had been rounded."""
        return decoded(self.values_OCT, self.log_step, self.basis_TT).reshape(self.shape)

    def bits(self) -> Tensor:
        """Return the length of the codes."""
        return bits(self.values_OCT, self.bits_TA)


class Coded(nn.Module):
    """The same as a parametrization: latent numbers → the weight they stand for.

    Args:
        values_OCT: to start with.
        step, basis_TT, shape: as in `Latent`.
    """

    basis_TT: Tensor | None
    bits_TA: Tensor

    def __init__(self, values_OCT: Tensor, step: float, basis_TT: Tensor | None, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))
        self.register_buffer("basis_TT", basis_TT.float() if basis_TT is not None else None, persistent=False)
        self.register_buffer("bits_TA", lengths(rounded(values_OCT)), persistent=False)
        self._start_OCT = values_OCT

    def forward(self, values_OCT: Tensor) -> Tensor:
        """Return the weight."""
        return decoded(values_OCT, self.log_step, self.basis_TT).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what training starts with, in place of the weight that was there."""
        return self._start_OCT.to(weight.device)

    def refresh(self, values_OCT: Tensor) -> None:
        """Look again at how long the codes of the integers are."""
        self.bits_TA = lengths(rounded(values_OCT))


def within(integers_OCT: Tensor, wanted_OCT: Tensor) -> Tensor:
    """Return numbers that round to these integers, as near as may be to the numbers they were rounded from."""
    return (integers_OCT + (wanted_OCT - integers_OCT).clamp(-INSIDE, INSIDE)).float()


def rounded(values_OCT: Tensor) -> Tensor:
    """Return the integers that are stored."""
    return values_OCT.detach().round().clamp(-LARGEST, LARGEST)


def decoded(values_OCT: Tensor, log_step: Tensor, basis_TT: Tensor | None) -> Tensor:
    """Return units Σ_t q_t·step·R_t, differentiable as if nothing had been rounded."""
    straight = values_OCT + (rounded(values_OCT) - values_OCT).detach()
    units = straight * log_step.exp()
    return units @ basis_TT if basis_TT is not None else units


def lengths(integers_OCT: Tensor) -> Tensor:
    """Return bits of the magnitudes 0 … A−1 by term, (T, A): the same for both signs, one more than there is."""
    largest = int(integers_OCT.abs().max()) + 2
    both = code_lengths(torch.cat([integers_OCT, -integers_OCT]), largest)
    return both[:, largest:].float()


def bits(values_OCT: Tensor, bits_TA: Tensor) -> Tensor:
    """Return the length of all codes, linear between one integer and the next so that it has a slope."""
    size = values_OCT.abs().clamp(max=bits_TA.shape[1] - 1 - 1e-3).reshape(-1, bits_TA.shape[0])
    below = size.detach().floor().long()
    low, high = (bits_TA.T.gather(0, below + more) for more in (0, 1))
    return (low + (high - low) * (size - below)).sum()
