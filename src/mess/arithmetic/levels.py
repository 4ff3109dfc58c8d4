"""How large the integers of a sum of references are likely to be, by row, column and term (FORMAT.md 10.10).

A file says it in quarter octaves, a few hundred small numbers a layer; what they add up to for an integer is its
context, which picks the table that it is coded with, and whether it is a step of a trellis. What is learned and what is
decoded must agree on that, so both take their contexts from here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CONTEXTS = 48  # half octaves of mean magnitude, from 2^−12 up
LEVELS = 96
LEVEL_OF_ONE = 48  # the level of a term whose mean magnitude is 1; quarter octaves
LOWEST, HIGHEST = -64, 63  # of rows and columns: quarter octaves below or above the term's
FLOOR = 0.02  # of the mean: a row of zeros is not worth a context of its own
SUMS = np.arange(2 * LOWEST, 2 * HIGHEST + 1, dtype=np.int16)
EVERY = np.arange(CONTEXTS, dtype=np.uint8)


class Levels(NamedTuple):
    """Quarter octaves of mean magnitude.

    Attributes:
        terms_K: of each term, 0 … 95; 48 is a mean magnitude of 1.
        rows_R, columns_C: of each row and column above the term's; None: all alike.
        trellised_from: the context from which on an integer is a step of a trellis (FORMAT.md 10.12); 48: none is.
    """

    terms_K: np.ndarray
    rows_R: np.ndarray | None = None
    columns_C: np.ndarray | None = None
    trellised_from: int = CONTEXTS

    @property
    def has_trellises(self) -> bool:
        """Whether there may be steps of a trellis, so that integers are about four times the indices that are coded."""
        return self.trellised_from < CONTEXTS


def contexts_of(levels: Levels, rows: int, columns: int, of_context: np.ndarray = EVERY) -> np.ndarray:
    """Return the context of each integer, (R, C, K), or what `of_context` has in its place.

    Args:
        of_context: one number for each context.
    """
    row_R, column_C = (np.zeros(1, np.int64) if own_N is None else own_N for own_N in (levels.rows_R, levels.columns_C))
    sum_RC = np.broadcast_to(row_R[:, None] - int(SUMS[0]) + column_C, (rows, columns))
    level_K = levels.terms_K.astype(np.int16)  # small numbers, as there may be many terms
    if rows * columns < len(SUMS):
        return of_context[_clipped(level_K + SUMS.take(sum_RC)[..., None])]
    # all that follows from the sum of both is looked up
    of_sum_KS = of_context[_clipped(level_K[:, None] + SUMS)]
    return of_sum_KS.take(sum_RC, axis=1).transpose(1, 2, 0)


def _clipped(level_X: np.ndarray) -> np.ndarray:
    """Return the contexts of levels, which are changed."""
    np.clip(level_X, 0, LEVELS - 1, out=level_X)
    level_X >>= 1
    return level_X


def trellised(levels: Levels, rows: int, columns: int) -> np.ndarray:
    """Return which integers are steps of a trellis, (R, C, K) bool."""
    return contexts_of(levels, rows, columns, np.arange(CONTEXTS) >= levels.trellised_from)


def fitted_levels(magnitudes_RCK: np.ndarray) -> Levels:
    """Return the levels of integers; those of rows and columns where they save more than they take."""
    if not magnitudes_RCK.any():
        return Levels(np.zeros(magnitudes_RCK.shape[2], dtype=np.int64))
    row_R, column_C, mean_K = (magnitudes_RCK.mean(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    terms_K = np.rint(4 * np.log2(np.maximum(mean_K, 2.0**-12))).astype(np.int64) + LEVEL_OF_ONE
    rows_R, columns_C = (_worth(mean_N / float(mean_K.mean()), magnitudes_RCK) for mean_N in (row_R, column_C))
    return Levels(np.clip(terms_K, 0, LEVELS - 1), rows_R, columns_C)


def _worth(ratio_N: np.ndarray, magnitudes_RCK: np.ndarray) -> np.ndarray | None:
    """Return an axis' levels if they save bits.

    Coding numbers of mean m at the mean of all takes log₂ of the ratio more, on average; of rare ones less.
    """
    level_N = np.clip(np.rint(4 * np.log2(ratio_N + FLOOR)), LOWEST, HIGHEST).astype(np.int64)
    count_X = np.unique(level_N, return_counts=True)[1]
    taken = -float((count_X * np.log2(count_X / len(level_N))).sum())
    saved = -float(np.log2(ratio_N + FLOOR).mean()) * min(float(magnitudes_RCK.sum()), magnitudes_RCK.size)
    return level_N if saved > taken else None
