"""How a weight tensor is cut into units and references: the one place that knows.

A tensor is seen as rows of `row` numbers. Its units are consecutive windows of `unit` numbers in each row; the last of
a row may be short. Its references are the full windows at every `stride` numbers within each row.

==================  =======================  ======================  ================
                    row                      unit                    stride
==================  =======================  ======================  ================
kernel layer        all of the tensor        kernel size · d         as unit
1x1, linear         one output channel's     D                       1
==================  =======================  ======================  ================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mess.arithmetic.cut import Cut


@dataclass(frozen=True)
class Geometry(Cut):
    """One tensor's cut; see the module.

    Attributes:
        stride: from one reference to the next, within a row.
    """

    name: str
    stride: int

    @property
    def numel(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)

    @property
    def references(self) -> int:
        """References that the tensor gives."""
        return self.references_every(self.stride)

    def cut(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return (full units (N, unit), short units (M, short_unit)), each in row order; M is 0 or `rows`."""
        rows_RL = weight.reshape(self.rows, self.row)
        whole = self.full_units * self.unit
        return rows_RL[:, :whole].reshape(-1, self.unit), rows_RL[:, whole:]

    def join(self, full_NU: Tensor, short_MU: Tensor) -> Tensor:
        """Return the tensor whose `cut` gives these units."""
        whole = full_NU.reshape(self.rows, self.full_units * self.unit)
        if not self.short_unit:
            return whole.reshape(self.shape)
        return torch.cat([whole, short_MU.reshape(self.rows, self.short_unit)], dim=1).reshape(self.shape)

    def interleave(self, full_N: Tensor, short_M: Tensor) -> Tensor:
        """Put one number a unit into the order of the units: each row's full ones, then its short one."""
        if not self.short_unit:
            return full_N.reshape(-1)
        return torch.cat([full_N.reshape(self.rows, self.full_units), short_M.reshape(self.rows, 1)], dim=1).reshape(-1)

    def separate(self, number_N: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `interleave`."""
        if not self.short_unit:
            return number_N, number_N[:0]
        both = number_N.reshape(self.rows, self.full_units + 1)
        return both[:, :-1].reshape(-1), both[:, -1]

    def reference_units(self, weight: Tensor) -> Tensor:
        """Return the references (K, unit) that a weight of this shape gives, in row order."""
        rows_RL = weight.reshape(self.rows, self.row)
        if self.row < self.unit:
            return weight.new_empty(0, self.unit)
        return rows_RL.unfold(1, self.unit, self.stride).reshape(-1, self.unit)
