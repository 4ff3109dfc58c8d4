"""The step of each integer of a sum of references: its tensor's, times quarter octaves (FORMAT.md 10.9).

Numbers that matter less are rounded more coarsely. How much less follows from the channel that they read, from the
channel that they write and from the term of the basis; so a file says one exponent for each of these, and not one for
each number. What is learned and what is decoded must agree to the last bit, so both take their steps from here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# the float32 nearest to 2^(m/4) for m = 0 … 3, by their bits
QUARTERS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], dtype=np.uint32).view(np.float32)
MIN_EXPONENT, MAX_EXPONENT = -64, 63
SUMS = np.arange(3 * MIN_EXPONENT, 3 * MAX_EXPONENT + 1)
SMALLEST = np.finfo(np.float32).tiny  # that is normal


class Exponents(NamedTuple):
    """Quarter octaves that the step of a row, a column, a term lies above the tensor's; None: none does."""

    rows_R: np.ndarray | None = None
    columns_C: np.ndarray | None = None
    terms_K: np.ndarray | None = None

    @property
    def given(self) -> bool:
        """Whether any axis has exponents."""
        return any(own_N is not None for own_N in self)


NO_EXPONENTS = Exponents()


def steps_of(step: float, exponents: Exponents) -> np.ndarray:
    """Return the steps of all integers of a tensor, float32, of a shape that broadcasts to (R, C, K)."""
    total_RCK = np.full((1, 1, 1), -SUMS[0], dtype=np.int16)  # small numbers, as there may be many integers
    for axis, own_N in enumerate(exponents):
        if own_N is not None:
            total_RCK = total_RCK + own_N.astype(np.int16).reshape([-1 if a == axis else 1 for a in range(3)])
    return _raised(step, SUMS).take(total_RCK)


def are_steps_good(step: float, exponents: Exponents) -> bool:
    """Return whether all steps of a tensor are finite and normal numbers in float32."""
    ends_2 = np.array([sum(int(end(own_N)) for own_N in exponents if own_N is not None) for end in (np.min, np.max)])
    lowest, highest = _raised(step, ends_2)
    return bool(lowest >= SMALLEST and np.isfinite(highest))


def _raised(step: float, quarters: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(np.float32(step) * QUARTERS[quarters & 3], (quarters >> 2).astype(np.int32))
