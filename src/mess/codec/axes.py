"""What section 8 says by row, column and term: exponents of steps and levels of magnitudes (FORMAT.md 10.9, 10.10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from mess.arithmetic.levels import CONTEXTS, HIGHEST, LEVEL_OF_ONE, LEVELS, LOWEST, Levels
from mess.arithmetic.step_exponents import MAX_EXPONENT, MIN_EXPONENT, Exponents
from mess.codec.bits import Reader
from mess.codec.streams import PreviousTable, Range, read_integers, write_integers
from mess.errors import FormatError

Size = tuple[int, int, int]  # rows, columns, terms
AXES = 5  # that a tensor may have numbers for: exponents of rows, columns, terms; levels of rows, columns
STEP_AXES = 3  # of these, those of exponents


def write_exponents(exponents: Sequence[Exponents], levels: Sequence[Levels]) -> bytes:
    """Return which axes of each tensor have exponents or levels, then all exponents."""
    axes = [
        sum(1 << axis for axis, own_N in enumerate((*steps, own.rows_R, own.columns_C)) if own_N is not None)
        for steps, own in zip(exponents, levels, strict=True)
    ]
    return _written([axes]) + _written([own_N for tensor in exponents for own_N in tensor if own_N is not None])


def write_levels(levels: Sequence[Levels]) -> bytes:
    """Return levels: of terms, as changes, of rows and columns, and where trellises start."""
    changes = []
    before: dict[int, np.ndarray] = {}
    for own in levels:
        terms = len(own.terms_K)
        changes.append(own.terms_K - before.get(terms, LEVEL_OF_ONE))
        before[terms] = own.terms_K
    others = [own_N for own in levels for own_N in (own.rows_R, own.columns_C) if own_N is not None]
    return _written(changes) + _written(others) + _written([[own.trellised_from for own in levels]])


def read_exponents(reader: Reader, sizes: Sequence[Size], axes: int) -> tuple[list[int], list[Exponents]]:
    """Undo `write_exponents`: which axes each tensor has numbers for, as bits, and its exponents.

    Args:
        axes: how many there may be.

    Raises:
        FormatError: anything a writer would not write.
    """
    masks = _read(reader, len(sizes), (0, (1 << axes) - 1)).tolist()
    counts = []
    for size, mask in zip(sizes, masks, strict=True):
        if mask and not all(size):
            raise FormatError(reader.where, "no exponents or levels of a tensor without integers", f"axes {mask}")
        counts += [count if mask >> axis & 1 else 0 for axis, count in enumerate(size)]
    parts = _split(_read(reader, sum(counts), (MIN_EXPONENT, MAX_EXPONENT)), counts)
    found = []
    for mask in masks:
        own = enumerate(islice(parts, STEP_AXES))
        found.append(Exponents(*(own_N if mask >> axis & 1 else None for axis, own_N in own)))
    return masks, found


def read_term_levels(reader: Reader, sizes: Sequence[Size]) -> list[np.ndarray]:
    """Return the levels of the terms of each tensor.

    Raises:
        FormatError: levels that are none.
    """
    counts = [terms for _, _, terms in sizes]
    found = []
    before: dict[int, np.ndarray] = {}
    for change_K in _split(_read(reader, sum(counts), (-LEVELS, LEVELS)), counts):
        level_K = change_K + before.get(len(change_K), LEVEL_OF_ONE)
        if not ((level_K >= 0) & (level_K < LEVELS)).all():
            raise FormatError(reader.where, f"levels below {LEVELS}", level_K.tolist())
        found.append(level_K)
        before[len(change_K)] = level_K
    return found


def read_levels(reader: Reader, sizes: Sequence[Size], masks: Sequence[int]) -> list[Levels]:
    """Undo `write_levels`.

    Args:
        masks: which axes each tensor has numbers for.

    Raises:
        FormatError: anything a writer would not write.
    """
    terms = read_term_levels(reader, sizes)
    there = [[mask >> axis & 1 for axis in range(STEP_AXES, AXES)] for mask in masks]
    counts = [n * count for own, size in zip(there, sizes, strict=True) for n, count in zip(own, size, strict=False)]
    parts = _split(_read(reader, sum(counts), (LOWEST, HIGHEST)), counts)
    starts = _read(reader, len(sizes), (0, CONTEXTS)).tolist()
    found = []
    for level_K, own, start in zip(terms, there, starts, strict=True):
        row_R, column_C = (part if told else None for told, part in zip(own, islice(parts, 2), strict=True))
        found.append(Levels(level_K, row_R, column_C, start))
    return found


def _written(parts: Sequence[np.ndarray | list[int]]) -> bytes:
    numbers_N = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    return write_integers(numbers_N.astype(np.int64), PreviousTable())


def _read(reader: Reader, count: int, within: Range) -> np.ndarray:
    numbers_N = read_integers(reader, count, PreviousTable(), within)
    return np.zeros(0, dtype=np.int64) if numbers_N is None else numbers_N


def _split(numbers_N: np.ndarray, counts: Sequence[int]) -> Iterator[np.ndarray]:
    """Return an iterator over parts of `counts` numbers."""
    return iter(np.split(numbers_N, np.cumsum(counts)[:-1]))
