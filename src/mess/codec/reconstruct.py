"""From what a file says to tensors, in arithmetic that every machine does alike (FORMAT.md, clause 9).

float32 throughout: a matched number is the product of reference and scale, rounded, then the sum with the offset,
rounded; never a fused multiply-add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mess.arithmetic.cut import Cut
from mess.arithmetic.step_exponents import steps_of
from mess.codec.dtypes import NAMED
from mess.codec.model import (
    BATCH_NORM_PARTS,
    BatchNorm,
    Codebook,
    Expanded,
    Matched,
    Plain,
    StoredModel,
    Tied,
    joined,
)
from mess.codec.numbers import cast
from mess.errors import FormatError

Tensor = tuple[np.ndarray, str]  # array and dtype by torch's name; bfloat16 as uint16
LARGEST_BOOK = 1 << 31  # bytes of references that are spread out in memory
FEW = 256  # numbers of a term, up to which many terms are computed together
BLOCK = 1 << 16  # numbers that are computed at once, where there may be any number


def reconstruct(stored: StoredModel, *, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a network, or only those `names`, in the order of the file; each has memory of its own.

    Raises:
        FormatError: numbers that are not finite.
    """
    books = _Books(stored)
    found: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for name, entry in stored.entries.items():
        if isinstance(entry, Plain):
            found[name] = (entry.numbers.as_dtype(entry.dtype).reshape(entry.shape), entry.dtype)
        elif isinstance(entry, Matched):
            found[name] = (_matched(name, entry, books), entry.dtype)
        elif isinstance(entry, Expanded):
            found[name] = (_expanded(name, entry, books), entry.dtype)
        elif isinstance(entry, BatchNorm):
            found |= _batch_norm(name, entry)
        elif isinstance(entry, Tied):
            ties[name] = entry.to
    found |= {name: (found[to][0].copy(), found[to][1]) for name, to in ties.items()}  # tensors share no memory
    if names is None:
        return found
    return {name: found[name] for name in names}


class _Books:
    """References of a network, as windows of its tensors: they overlap, and so may be far more than there is memory."""

    def __init__(self, stored: StoredModel) -> None:
        self._stored = stored
        self._floats: dict[str | int, np.ndarray] = {}  # by source, or by number where they are of their own

    def cut(self, number: int, shape: tuple[int, ...]) -> Cut:
        """Return how a tensor of that shape is cut into units of a codebook."""
        book = self._stored.books[number]
        return Cut.of(shape, book.unit, book.by_row)

    def windows(self, number: int) -> np.ndarray:
        """Return a codebook's references, a view, as float32 (rows of the source, references a row, unit)."""
        book = self._stored.books[number]
        key = number if book.source is None else book.source
        if book.numbers is not None:
            if key not in self._floats:
                self._floats[key] = book.numbers.floats()
            return self._floats[key].reshape(1, -1, book.unit)
        source = self._stored.entries[book.source or ""]
        if not isinstance(source, Plain):
            raise FormatError(book.source, "a tensor stored by itself", type(source).__name__)
        if key not in self._floats:
            self._floats[key] = source.numbers.floats()
        cut = Cut.of(source.shape, book.unit, book.by_row)
        if not cut.references_every(book.stride):
            return np.empty((0, 0, book.unit), dtype=np.float32)
        rows_RL = self._floats[key].reshape(cut.rows, cut.row)
        return np.lib.stride_tricks.sliding_window_view(rows_RL, book.unit, axis=1)[:, :: book.stride]


def rebuild_units(
    refs_RKU: np.ndarray, cut: Cut, index_N: np.ndarray, scale_N: np.ndarray | None, offset_N: np.ndarray | None
) -> np.ndarray:
    """Return the float32 tensor that N units stand for; a short unit takes the first numbers of its reference.

    Args:
        refs_RKU: rows of references, which may overlap in memory; indices go on from row to row.
    """
    full, short = divmod(cut.row, cut.unit)
    rows_RL = np.empty((cut.rows, cut.row), dtype=np.float32)
    index_RU = index_N.reshape(cut.rows, full + bool(short))
    if not short:
        _take(refs_RKU, index_N, rows_RL.reshape(-1, cut.unit))
    else:
        whole_NU = np.empty((cut.rows * full, cut.unit), dtype=np.float32)
        _take(refs_RKU, index_RU[:, :full].reshape(-1), whole_NU)
        rows_RL[:, : full * cut.unit] = whole_NU.reshape(cut.rows, full * cut.unit)
        _take(refs_RKU[:, :, :short], index_RU[:, full], rows_RL[:, full * cut.unit :])
    if scale_N is not None and offset_N is not None:
        lengths_U = np.array([cut.unit] * full + [short] * bool(short), dtype=np.int64)
        for numbers_N, operation in ((scale_N, np.multiply), (offset_N, np.add)):
            spread_RL = np.repeat(numbers_N.reshape(cut.rows, len(lengths_U)), lengths_U, axis=1)
            operation(rows_RL, spread_RL, out=rows_RL)
    return rows_RL.reshape(cut.shape)


def _take(refs_RKU: np.ndarray, index_N: np.ndarray, out_NU: np.ndarray) -> None:
    """Put the references of N indices in their places."""
    _, in_row, unit = refs_RKU.shape
    if refs_RKU.flags.c_contiguous and out_NU.flags.c_contiguous:  # the usual, and several times faster
        np.take(refs_RKU.reshape(-1, unit), index_N, axis=0, out=out_NU, mode="clip")
        return
    block = max(1, BLOCK // unit)
    for start in range(0, len(index_N), block):
        out_NU[start : start + block] = refs_RKU[np.divmod(index_N[start : start + block], in_row)]


def _matched(name: str, entry: Matched, books: _Books) -> np.ndarray:
    cut = books.cut(entry.book, entry.shape)
    if not cut.units:
        return np.empty(entry.shape, NAMED[entry.dtype].array)
    scale, offset = (None if x is None else x.floats() for x in (entry.scale_N, entry.offset_N))
    with np.errstate(over="ignore", invalid="ignore"):
        floats = rebuild_units(books.windows(entry.book), cut, entry.index_N, scale, offset)
    if not np.isfinite(floats).all():
        raise FormatError(name, "finite numbers", "NaN or infinity")
    return cast(floats, entry.dtype)


def _expanded(name: str, entry: Expanded, books: _Books) -> np.ndarray:
    """Return Σ_k (q_k·s_k)·R_k: each product rounded, then the sum, one reference after the other (FORMAT.md 10.8)."""
    if not math.prod(entry.shape):  # but maybe more references than could be gone through
        return np.empty(entry.shape, NAMED[entry.dtype].array)
    floats_UN = _summed(entry, books.windows(entry.book))
    if not np.isfinite(floats_UN).all():
        raise FormatError(name, "finite numbers", "NaN or infinity")
    return cast(np.ascontiguousarray(floats_UN.T), entry.dtype).reshape(entry.shape)


def _summed(entry: Expanded, refs_RKU: np.ndarray) -> np.ndarray:
    """Return the numbers of N units, float32 (U, N)."""
    scaled_KRC = entry.integers_RCK.transpose(2, 0, 1).astype(np.float32, order="C")
    terms, unit = len(scaled_KRC), refs_RKU.shape[2]
    scaled_K1N = scaled_KRC.reshape(terms, 1, -1)  # a view
    floats_UN = np.zeros((unit, scaled_K1N.shape[2]), dtype=np.float32)
    product_UN = np.empty_like(floats_UN)
    # one term after the other: in another order sums would be rounded otherwise
    together = 1 if floats_UN.size > FEW else BLOCK // FEW
    with np.errstate(over="ignore", invalid="ignore"):
        scaled_KRC *= steps_of(entry.step, entry.exponents).transpose(2, 0, 1)
        for start in range(0, terms, together):
            if together == 1:
                ref_U = refs_RKU[divmod(start, refs_RKU.shape[1])]
                np.multiply(ref_U[:, None], scaled_K1N[start], out=product_UN)
                floats_UN += product_UN
                continue
            number_K = np.arange(start, min(start + together, terms))
            refs_KU = refs_RKU[np.divmod(number_K, refs_RKU.shape[1])]
            product_KUN = refs_KU[:, :, None] * scaled_K1N[start : start + together]
            product_KUN[0] += floats_UN
            floats_UN = np.add.accumulate(product_KUN, axis=0)[-1].copy()
    return floats_UN


def references(stored: StoredModel, book: Codebook) -> np.ndarray:
    """Return references as float32 (K, unit), each with memory of its own.

    Raises:
        FormatError: they overlap so far that together they are beyond `LARGEST_BOOK` bytes.
    """
    refs_RKU = _Books(replace(stored, books=[book])).windows(0)
    if refs_RKU.nbytes > LARGEST_BOOK:
        raise FormatError(book.source, f"references of at most {LARGEST_BOOK:,} bytes", f"{refs_RKU.nbytes:,}")
    return np.ascontiguousarray(refs_RKU).reshape(-1, book.unit)


def _batch_norm(prefix: str, entry: BatchNorm) -> dict[str, Tensor]:
    """Return a layer that computes x·scale + shift: weight = scale·√(1 + eps)."""
    weight = entry.scale.floats() * np.float32(np.sqrt(np.float64(1) + np.float64(entry.eps)))
    return batch_norm_tensors(prefix, weight, entry.shift.floats(), tracked=entry.tracked)


def batch_norm_tensors(prefix: str, weight: np.ndarray, bias: np.ndarray, *, tracked: bool) -> dict[str, Tensor]:
    """Return the tensors of a layer with this weight and bias: mean 0, variance 1, no batch counted."""
    size = len(weight)
    values = (weight, bias, np.zeros(size, np.float32), np.ones(size, np.float32))
    found: dict[str, Tensor] = {
        joined(prefix, part): (value, "float32") for part, value in zip(BATCH_NORM_PARTS[:4], values, strict=True)
    }
    if tracked:
        found[joined(prefix, BATCH_NORM_PARTS[4])] = (np.zeros((), np.int64), "int64")
    return found
