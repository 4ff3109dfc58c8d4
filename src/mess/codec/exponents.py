"""Exponents of steps to bytes and back (FORMAT.md 10.9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mess.codec.bits import Reader
from mess.codec.streams import PreviousTable, read_integers, write_integers
from mess.errors import FormatError
from mess.step_exponents import MAX_EXPONENT, MIN_EXPONENT, Exponents

Size = tuple[int, int, int]  # rows, columns, terms


def write_exponents(exponents: Sequence[Exponents]) -> bytes:
    """Return which axes of each tensor have exponents, then all of these."""
    axes = [sum(1 << axis for axis, own_N in enumerate(tensor) if own_N is not None) for tensor in exponents]
    there = [own_N.astype(np.int64) for tensor in exponents for own_N in tensor if own_N is not None]
    return b"".join(
        write_integers(numbers_N, PreviousTable())
        for numbers_N in (np.array(axes, dtype=np.int64), np.concatenate([np.zeros(0, dtype=np.int64), *there]))
    )


def read_exponents(reader: Reader, sizes: Sequence[Size]) -> list[Exponents]:
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
    left = iter(np.split(_read(reader, sum(counts), (MIN_EXPONENT, MAX_EXPONENT)), np.cumsum(counts)[:-1]))
    found = []
    for mask in axes.tolist():
        parts = [next(left) for _ in range(3)]
        found.append(Exponents(*(own_N if mask >> axis & 1 else None for axis, own_N in enumerate(parts))))
    return found


def _read(reader: Reader, count: int, within: tuple[int, int]) -> np.ndarray:
    numbers_N = read_integers(reader, count, PreviousTable(), within)
    return np.zeros(0, dtype=np.int64) if numbers_N is None else numbers_N
