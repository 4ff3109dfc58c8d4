"""Integers whose neighbours say how large they are likely to be: which table each one uses (FORMAT.md, clause 10).

A layer's integers are rows (output channels) × columns (input channels) × terms (of the basis). They are decoded in
stages: the first term in four bands of rows, then each further term at once. Within a stage the table of an integer
follows from its term's level, a byte of the file, and from how large its row and its column have been so far::

    context = (level + h(row) + h(column)) ≫ 1,    h = quarter octaves above or below the layer's mean

Channels differ much more than positions do, so this sees most of the structure that rounded networks have, and a
whole stage still decodes in one go. All arithmetic is on integers: nothing here depends on a float.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CONTEXTS = 48  # half octaves of mean magnitude, from 2^−12 up
BANDS = 4  # of rows, in the first term
UNIT = 64  # a ratio of 1, in fixed point
FLOOR = 6  # added to ratios: a channel of zeros so far is not expected to stay one
LEVEL_OF_ONE = 48  # the level of a term whose mean magnitude is 1; quarter octaves
LEVELS = 96
# ⌈64 · 2^((k − ½)/4)⌉ for k = −13 … 20: the smallest ratio of each quarter octave (FORMAT.md 10.4)
EDGES = np.array(
    [
        7, 8, 9, 11, 13, 15, 18, 21, 25, 30, 35, 42, 50, 59, 70, 83, 99, 118, 140, 166, 198, 235, 280, 332, 395, 470,
        559, 664, 790, 940, 1117, 1328, 1580, 1879,
    ]
)  # fmt: skip
LOWEST = -14  # quarter octaves of a ratio below the first edge
SUMS = np.arange(2 * LOWEST, 2 * (LOWEST + len(EDGES)) + 1)
EVERY = np.arange(CONTEXTS)


def stages(rows: int, terms: int) -> Iterator[tuple[int, slice]]:
    """Yield (term, rows) of each stage, in the order of decoding; empty bands are left out."""
    for band in range(BANDS):
        cut = slice(rows * band // BANDS, rows * (band + 1) // BANDS)
        if cut.start < cut.stop:
            yield 0, cut
    for term in range(1, terms):
        yield term, slice(0, rows)


class Seen:
    """How large a layer's integers have been so far, by row and by column; says what to expect of the next stage.

    Args:
        size: rows, columns and terms of the layer.
    """

    def __init__(self, size: tuple[int, int, int]) -> None:
        self.rows, self.columns, _ = size
        self._row_R = np.zeros(self.rows, dtype=np.int64)
        self._column_C = np.zeros(self.columns, dtype=np.int64)

    def contexts(self, term: int, rows: slice, level: int, of_context: np.ndarray = EVERY) -> np.ndarray:
        """Return the context of each integer of a stage, (rows, C), or what `of_context` has in its place.

        Args:
            level: the term's, 0 … 95.
            of_context: one small number for each context.
        """
        if term:
            total = self.rows * self.columns * term
            row_R = _octaves(self._row_R, self.columns * term, total)
            column_C = _octaves(self._column_C, self.rows * term, total)
        else:
            row_R = np.full(rows.stop - rows.start, -LOWEST)
            column_C = _octaves(self._column_C, rows.start, rows.start * self.columns)
        # all that follows from the sum of both is looked up once for each sum there can be
        of_sum = of_context[np.clip((level + SUMS) >> 1, 0, CONTEXTS - 1)]
        return of_sum.take(np.add.outer(row_R, column_C))

    def add(self, rows: slice, values_RC: np.ndarray) -> None:
        """Take note of a stage's integers."""
        magnitudes_RC = np.abs(values_RC)
        self._row_R[rows] += magnitudes_RC.sum(1)
        self._column_C += magnitudes_RC.sum(0)


def term_level(magnitudes_RC: np.ndarray) -> int:
    """Return the level that suits a term: quarter octaves of its mean magnitude. Writers choose; readers are told."""
    mean = float(magnitudes_RC.mean()) if magnitudes_RC.size else 0.0
    return int(np.clip(round(4 * np.log2(max(mean, 2.0**-12))) + LEVEL_OF_ONE, 0, LEVELS - 1))


def _octaves(sums_N: np.ndarray, each: int, seen: int) -> np.ndarray:
    """Quarter octaves of (sum / each) / (total / seen), counted from `LOWEST`.

    `each` of the `seen` integers belong to a channel.
    """
    total = int(sums_N.sum())
    if not total:
        return np.full(len(sums_N), -LOWEST)
    # integers are below 2^15, so this stays below 2^63 for all layers of fewer than 2^42 numbers
    ratio_N = sums_N * (UNIT * (seen // each)) // total
    return EDGES.searchsorted(ratio_N + FLOOR, side="right")
