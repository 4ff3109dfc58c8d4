"""How old files say how large integers are likely to be: their neighbours do (FORMAT.md 10.3, 10.4; coders 1 and 2).

A layer's integers are rows (output channels) × columns (input channels) × terms (of the basis). They are decoded in
stages: the first term in two bands of rows, then each further term at once. Within a stage the table of an integer
follows from its term's level, a byte of the file, and from how large its row and its column have been so far::

    context = (level + h(row) + h(column)) ≫ 1,    h = quarter octaves above or below the layer's mean

Layers of one size are decoded side by side. All arithmetic is on integers: nothing here depends on a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mess.arithmetic.levels import CONTEXTS, EVERY
from mess.codec.axes import Size
from mess.codec.clusters import ContextCluster, clusters_of_contexts
from mess.codec.grouped import LaneDecoder

BANDS = 2  # of rows, in the first term
UNIT = 64  # a ratio of 1, in fixed point
FLOOR = 6  # added to ratios: a channel of zeros so far is not expected to stay one
# ⌈64 · 2^((k − ½)/4)⌉ for k = −13 … 20: the smallest ratio of each quarter octave (FORMAT.md 10.4)
EDGES = np.array(
    [
        7, 8, 9, 11, 13, 15, 18, 21, 25, 30, 35, 42, 50, 59, 70, 83, 99, 118, 140, 166, 198, 235, 280, 332, 395, 470,
        559, 664, 790, 940, 1117, 1328, 1580, 1879,
    ]
)  # fmt: skip
EDGES_BELOW = EDGES.searchsorted(np.arange(int(EDGES[-1]) + 1), side="right")  # or at each ratio up to the last edge
LOWEST = -14  # quarter octaves of a ratio below the first edge
SUMS = np.arange(2 * LOWEST, 2 * (LOWEST + len(EDGES)) + 1)
TOGETHER = 1 << 17  # integers of a stage that are decoded at once, of layers of one size


def side_by_side(sizes: Sequence[Size], places: Iterable[int]) -> Iterator[list[int]]:
    """Yield the places of layers of one size, so few at a time that a stage of all of them stays in cache."""
    alike: dict[Size, list[int]] = {}
    for place in places:
        alike.setdefault(sizes[place], []).append(place)
    for (rows, columns, _), group in alike.items():
        most = max(1, TOGETHER // max(1, rows * columns))
        yield from (group[start : start + most] for start in range(0, len(group), most))


def decode_by_neighbours(
    decoders: Sequence[LaneDecoder], clusters: Sequence[ContextCluster], size: Size, levels_LK: np.ndarray
) -> np.ndarray:
    """Return the integers of L layers of one size, (L, R, C, K)."""
    rows_, columns, terms = size
    layers = len(decoders)
    values_KLRC = np.zeros((terms, layers, rows_, columns), dtype=np.int32)
    if values_KLRC.size:
        of_context = clusters_of_contexts(clusters)
        low_LS = np.tile(np.array([cluster.low for cluster in clusters], dtype=np.int32), (layers, 1))
        place_L1 = np.arange(layers)[:, None]
        seen = ContextState(layers, rows_, columns)
        for term, rows in stages(rows_, terms):
            stage = seen.stage(term, rows, levels_LK[:, term], of_context)
            # by cluster, as they were coded
            order_LN = stage.contexts().reshape(layers, -1).argsort(axis=1, kind="stable")
            order_LN += columns * (rows.start + rows_ * place_L1)
            counts_LS = stage.counts(len(clusters))
            parts = [
                part
                for decoder, counts in zip(decoders, counts_LS.tolist(), strict=True)
                for part in decoder.decode(counts)
            ]
            found_N = np.concatenate(parts)
            found_N += np.repeat(low_LS.ravel(), counts_LS.ravel())
            values_KLRC[term].reshape(-1)[order_LN.ravel()] = found_N
            seen.add(rows, values_KLRC[term, :, rows])
    return values_KLRC.transpose(1, 2, 3, 0)


def stages(rows: int, terms: int) -> Iterator[tuple[int, slice]]:
    """Yield (term, rows) of each stage, in the order of decoding; empty bands are left out."""
    for band in range(BANDS):
        cut = slice(rows * band // BANDS, rows * (band + 1) // BANDS)
        if cut.start < cut.stop:
            yield 0, cut
    for term in range(1, terms):
        yield term, slice(0, rows)


@dataclass(frozen=True)
class Stage:
    """The contexts of a stage of T layers. Rows of one quarter octave have the same ones, so V sorts of rows say all.

    Attributes:
        sort_TVC: contexts of each sort of row.
        sort_TR: which sort each row is of.
    """

    sort_TVC: np.ndarray
    sort_TR: np.ndarray

    def contexts(self) -> np.ndarray:
        """Return the context of each integer, (T, R, C)."""
        layers, sorts, columns = self.sort_TVC.shape
        place_TR = self.sort_TR + sorts * np.arange(layers)[:, None]
        return self.sort_TVC.reshape(-1, columns).take(place_TR, axis=0)

    def counts(self, kinds: int) -> np.ndarray:
        """Return how many integers of each layer have each of the contexts 0 … kinds − 1, (T, kinds)."""
        layers, sorts, columns = self.sort_TVC.shape
        place_T1 = np.arange(layers)[:, None]
        rows_X = np.bincount((self.sort_TR + sorts * place_T1).ravel(), minlength=layers * sorts)
        context_X = (self.sort_TVC.reshape(layers, -1) + kinds * place_T1).ravel()
        counts_X = np.bincount(context_X, np.repeat(rows_X, columns), minlength=layers * kinds)
        return counts_X.astype(np.int64).reshape(layers, kinds)


class ContextState:
    """How large the integers of T layers of one size have been so far, by row and by column.

    It says what to expect of the next stage. Layers know nothing of each other; they stand side by side so that NumPy
    is called once for all of them.

    Args:
        layers: T.
        rows, columns: R and C of each.
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self._sum_TN = np.zeros((layers, rows + columns), dtype=np.int64)  # of magnitudes: by row, then by column
        self._row_TR, self._column_TC = self._sum_TN[:, :rows], self._sum_TN[:, rows:]
        self._unit_N = UNIT * np.repeat([rows, columns], [rows, columns])
        self._table_T1 = len(SUMS) * np.arange(layers)[:, None]
        self._of_stage = np.int32 if max(rows, columns) < 1 << 16 else np.int64  # sums of integers below 2^15

    def stage(self, term: int, rows: slice, level_T: np.ndarray, of_context: np.ndarray = EVERY) -> Stage:
        """Return the context of each integer of a stage, or what `of_context` has in its place.

        Args:
            level_T: the term's, 0 … 95, in each layer.
            of_context: one small number for each context.
        """
        octave_TN = self._octaves()
        row_TR, column_TC = octave_TN[:, rows], octave_TN[:, self.rows :]
        if not term:
            row_TR = np.full_like(row_TR, -LOWEST)
        # all that follows from the sum of both is looked up once for each sum there can be
        context_TS = np.minimum(np.maximum((level_T[:, None] + SUMS) >> 1, 0), CONTEXTS - 1)
        there = np.bincount(row_TR.ravel()) > 0  # so that there are never more sorts of rows than rows
        sum_TVC = np.flatnonzero(there)[:, None] + (column_TC + self._table_T1)[:, None, :]
        return Stage(of_context[context_TS].take(sum_TVC), (np.cumsum(there) - 1).take(row_TR))

    def add(self, rows: slice, values_TRC: np.ndarray) -> None:
        """Take note of a stage's integers."""
        magnitudes_TRC = np.abs(values_TRC)
        self._row_TR[:, rows] += magnitudes_TRC.sum(2, dtype=self._of_stage)
        self._column_TC += magnitudes_TRC.sum(1, dtype=self._of_stage)

    def _octaves(self) -> np.ndarray:
        """Return quarter octaves of each row and column above or below the layer's mean, counted from `LOWEST`."""
        total_T1 = self._row_TR.sum(1, keepdims=True)
        # integers are below 2^15, so this stays below 2^63 for all layers of fewer than 2^42 numbers
        ratio_TN = self._sum_TN * self._unit_N // np.maximum(total_T1, 1)
        return np.where(total_T1 > 0, EDGES_BELOW.take(ratio_TN + FLOOR, mode="clip"), -LOWEST)
