"""How a tensor is cut into units and references: what is matched and what is decoded must agree on the counts."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Rows of `row` numbers, each cut into windows of `unit`, of which the last one may be short."""

    shape: tuple[int, ...]
    row: int
    unit: int

    @classmethod
    def of(cls, shape: tuple[int, ...], unit: int, by_row: bool) -> Cut:
        """Return the cut of a tensor whose rows are its first dimension's (`by_row`) or that is one row."""
        numel = math.prod(shape)
        return cls(shape, numel // shape[0] if by_row and shape and shape[0] else numel, unit)

    @property
    def rows(self) -> int:
        """Rows of the tensor."""
        return math.prod(self.shape) // self.row if self.row else 0

    @property
    def units(self) -> int:
        """Units of the tensor, short ones included."""
        return self.rows * -(-self.row // self.unit)

    @property
    def full_units(self) -> int:
        """Units of full length in a row."""
        return self.row // self.unit

    @property
    def short_unit(self) -> int:
        """Length of the short unit that ends each row, 0 where there is none."""
        return self.row % self.unit

    def references_every(self, stride: int) -> int:
        """Return how many references a tensor cut like this gives: full windows, `stride` numbers apart in a row."""
        return self.rows * ((self.row - self.unit) // stride + 1) if self.row >= self.unit else 0
