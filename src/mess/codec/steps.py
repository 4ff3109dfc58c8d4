"""The step of each integer of a sum of references: its tensor's, times quarter octaves (FORMAT.md 10.9).

Numbers that matter less are rounded more coarsely. How much less follows from the channel that they read, from the
channel that they write and from the term of the basis; so a file says one exponent for each of these, and not one for
each number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mess.codec.bits import Reader
from mess.codec.streams import PreviousTable, read_integers, write_integers
from mess.errors import FormatError

# the float32 nearest to 2^(m/4) for m = 0 … 3, by their bits
QUARTERS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], dtype=np.uint32).view(np.float32)
EXPONENT_RANGE = (-64, 63)
SMALLEST = np.finfo(np.float32).tiny  # that is normal
Size = tuple[int, int, int]  # rows, columns, terms


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
    total_RCK = np.zeros((1, 1, 1), dtype=np.int64)
    for axis, own_N in enumerate(exponents):
        if own_N is not None:
            total_RCK = total_RCK + own_N.astype(np.int64).reshape([-1 if a == axis else 1 for a in range(3)])
    return _raised(step, total_RCK)


def are_steps_good(step: float, exponents: Exponents) -> bool:
    """Return whether all steps of a tensor are finite and normal numbers in float32."""
    ends_2 = np.array([sum(int(end(own_N)) for own_N in exponents if own_N is not None) for end in (np.min, np.max)])
    lowest, highest = _raised(step, ends_2)
    return bool(lowest >= SMALLEST and np.isfinite(highest))


def write_exponents(exponents: list[Exponents]) -> bytes:
    """Return which axes of each tensor have exponents, then all of these."""
    axes = [sum(1 << axis for axis, own_N in enumerate(tensor) if own_N is not None) for tensor in exponents]
    there = [own_N.astype(np.int64) for tensor in exponents for own_N in tensor if own_N is not None]
    return b"".join(
        write_integers(numbers_N, PreviousTable())
        for numbers_N in (np.array(axes, dtype=np.int64), np.concatenate([np.zeros(0, dtype=np.int64), *there]))
    )


def read_exponents(reader: Reader, sizes: list[Size]) -> list[Exponents]:
    """Undo `write_exponents`.

    Raises:
        FormatError: anything a writer would not write.
    """
    axes = _read(reader, len(sizes), (0, 7))
    counts = []
    for size, mask in zip(sizes, axes.tolist(), strict=True):
        if mask and not all(size):
            raise FormatError(reader.where, "no exponents of a tensor without integers", f"axes {mask}")
        counts += [count if mask >> axis & 1 else 0 for axis, count in enumerate(size)]
    left = iter(np.split(_read(reader, sum(counts), EXPONENT_RANGE), np.cumsum(counts)[:-1]))
    found = []
    for mask in axes.tolist():
        parts = [next(left) for _ in range(3)]
        found.append(Exponents(*(own_N if mask >> axis & 1 else None for axis, own_N in enumerate(parts))))
    return found


def _raised(step: float, quarters: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(np.float32(step) * QUARTERS[quarters & 3], (quarters >> 2).astype(np.int32))


def _read(reader: Reader, count: int, within: tuple[int, int]) -> np.ndarray:
    numbers_N = read_integers(reader, count, PreviousTable(), within)
    return np.zeros(0, dtype=np.int64) if numbers_N is None else numbers_N
