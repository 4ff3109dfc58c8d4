"""A layer of version 4 while it trains: numbers that round to its integers.

Roundings pass gradients straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mess.scheme.learned.rate_rounding import rounded
from mess.step_exponents import Exponents, steps_of

INSIDE = 0.45  # of a step: how near its edge a number may start in the bin that rounding chose for it


class Latent(nn.Module):
    """Latent numbers of a layer → the weight they stand for; a parametrization of it, too.

    Attributes:
        values_OCT: multiples of the step; their nearest integers are what is stored. As a parametrization what training
            starts with, the numbers themselves are then the parameter of the layer.
        log_step: () logarithm of the step.
        factors_OCT: by which the steps of rows, columns and terms differ from it, of a shape that broadcasts.
        basis_TT: rows are references; None: the numbers are the weights.
        shape: of the weight.
    """

    factors_OCT: Tensor
    basis_TT: Tensor | None

    def __init__(
        self,
        values_OCT: Tensor,
        step: float,
        exponents: Exponents,
        basis_TT: Tensor | None,
        shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.values_OCT, self.exponents, self.shape = values_OCT, exponents, shape
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))
        self.register_buffer("factors_OCT", torch.from_numpy(steps_of(1.0, exponents)), persistent=False)
        self.register_buffer("basis_TT", basis_TT.float() if basis_TT is not None else None, persistent=False)

    @classmethod
    def start(
        cls,
        integers_OCT: Tensor,
        unrounded_OCT: Tensor,
        step: float,
        exponents: Exponents,
        basis_TT: Tensor | None,
        shape: tuple[int, ...],
    ) -> Latent:
        """Begin where rounding ended: in the bin that it chose, on the side where the number came from."""
        return cls(within(integers_OCT, unrounded_OCT).requires_grad_(True), step, exponents, basis_TT, shape)

    def move(self, device: torch.device) -> None:
        """Take everything to a device."""
        self.to(device)
        self.values_OCT = self.values_OCT.detach().to(device).requires_grad_(True)

    def integers(self) -> Tensor:
        """Return what is stored, (O, C, T)."""
        return rounded(self.values_OCT)

    def weight(self) -> Tensor:
        """Return the weight that is decoded, differentiable as if nothing had been rounded."""
        return self(self.values_OCT)

    def forward(self, values_OCT: Tensor) -> Tensor:
        """Return the weight that these numbers stand for."""
        return decoded(values_OCT, self.log_step.exp() * self.factors_OCT, self.basis_TT).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what training starts with, in place of the weight that was there."""
        return self.values_OCT.detach().to(weight.device)


def within(integers_OCT: Tensor, unrounded_OCT: Tensor) -> Tensor:
    """Return numbers that round to these integers, as near as may be to the numbers they were rounded from."""
    return (integers_OCT + (unrounded_OCT - integers_OCT).clamp(-INSIDE, INSIDE)).float()


def decoded(values_OCT: Tensor, steps_OCT: Tensor, basis_TT: Tensor | None) -> Tensor:
    """Return units Σ_t q_t·s_t·R_t, differentiable as if nothing had been rounded."""
    # in float32 whatever the forward pass computes in: training is to see what the file decodes to
    with torch.autocast(values_OCT.device.type, enabled=False):
        straight = values_OCT + (rounded(values_OCT) - values_OCT).detach()
        units = straight * steps_OCT
        return units @ basis_TT if basis_TT is not None else units
