"""From what a file says to tensors, in arithmetic that every machine does alike (FORMAT.md, clause 9).

float32 throughout: a matched number is the product of reference and scale, rounded, then the sum with the offset,
rounded; never a fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mess.codec.model import (
    BATCH_NORM_PARTS,
    BatchNorm,
    Codebook,
    Cut,
    Expanded,
    Matched,
    Plain,
    StoredModel,
    Tied,
    joined,
)
from mess.codec.numbers import cast
from mess.errors import FormatError
from mess.step_exponents import steps_of

Tensor = tuple[np.ndarray, str]  # array and dtype by torch's name; bfloat16 as uint16


def reconstruct(stored: StoredModel, *, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a network, or only those `names`, in the order of the file; each has memory of its own.

    Raises:
        FormatError: numbers that are not finite.
    """
    there = {None, *stored.entries}
    books = {n: references(stored, book) for n, book in enumerate(stored.books) if book.source in there}
    found: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for name, entry in stored.entries.items():
        if isinstance(entry, Plain):
            found[name] = (entry.numbers.as_dtype(entry.dtype).reshape(entry.shape), entry.dtype)
        elif isinstance(entry, Matched):
            found[name] = (_matched(name, entry, stored.books[entry.book], books[entry.book]), entry.dtype)
        elif isinstance(entry, Expanded):
            found[name] = (_expanded(name, entry, books[entry.book]), entry.dtype)
        elif isinstance(entry, BatchNorm):
            found |= _batch_norm(name, entry)
        elif isinstance(entry, Tied):
            ties[name] = entry.to
    found |= {name: (found[to][0].copy(), found[to][1]) for name, to in ties.items()}  # tensors share no memory
    if names is None:
        return found
    return {name: found[name] for name in names}


def rebuild_units(
    refs_KU: np.ndarray, cut: Cut, index_N: np.ndarray, scale_N: np.ndarray | None, offset_N: np.ndarray | None
) -> np.ndarray:
    """Return the float32 tensor that N units stand for; a short unit takes the first numbers of its reference."""
    full, short = divmod(cut.row, cut.unit)
    rows_RL = np.empty((cut.rows, cut.row), dtype=np.float32)
    index_RU = index_N.reshape(cut.rows, full + bool(short))
    whole = rows_RL[:, : full * cut.unit].reshape(cut.rows, full, cut.unit)
    np.take(refs_KU, index_RU[:, :full], axis=0, out=whole, mode="clip")
    rows_RL[:, : full * cut.unit] = whole.reshape(cut.rows, full * cut.unit)
    if short:
        rows_RL[:, full * cut.unit :] = refs_KU[index_RU[:, full], :short]
    if scale_N is not None and offset_N is not None:
        lengths_U = np.array([cut.unit] * full + [short] * bool(short), dtype=np.int64)
        for numbers_N, operation in ((scale_N, np.multiply), (offset_N, np.add)):
            spread_RL = np.repeat(numbers_N.reshape(cut.rows, len(lengths_U)), lengths_U, axis=1)
            operation(rows_RL, spread_RL, out=rows_RL)
    return rows_RL.reshape(cut.shape)


def _matched(name: str, entry: Matched, book: Codebook, refs_KU: np.ndarray) -> np.ndarray:
    cut = Cut.of(entry.shape, book.unit, book.by_row)
    scale, offset = (None if x is None else x.floats() for x in (entry.scale_N, entry.offset_N))
    with np.errstate(over="ignore", invalid="ignore"):
        floats = rebuild_units(refs_KU, cut, entry.index_N, scale, offset)
    if not np.isfinite(floats).all():
        raise FormatError(name, "finite numbers", "NaN or infinity")
    return cast(floats, entry.dtype)


def _expanded(name: str, entry: Expanded, refs_KU: np.ndarray) -> np.ndarray:
    """Return Σ_k (q_k·s_k)·R_k: each product rounded, then the sum, one reference after the other (FORMAT.md 10.8)."""
    steps_RCK = steps_of(entry.step, entry.exponents)
    scaled_KRC = entry.integers_RCK.transpose(2, 0, 1).astype(np.float32, order="C")
    scaled_KN = scaled_KRC.reshape(len(refs_KU), -1)  # a view
    floats_UN = np.zeros((refs_KU.shape[1], scaled_KN.shape[1]), dtype=np.float32)
    product_UN = np.empty_like(floats_UN)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled_KRC *= steps_RCK.transpose(2, 0, 1)
        for scaled_N, ref_U in zip(scaled_KN, refs_KU, strict=True):
            np.multiply(ref_U[:, None], scaled_N, out=product_UN)
            floats_UN += product_UN
    if not np.isfinite(floats_UN).all():
        raise FormatError(name, "finite numbers", "NaN or infinity")
    return cast(np.ascontiguousarray(floats_UN.T), entry.dtype).reshape(entry.shape)


def references(stored: StoredModel, book: Codebook) -> np.ndarray:
    """Return references as float32 (K, unit)."""
    if book.numbers is not None:
        return book.numbers.floats().reshape(-1, book.unit)
    source = stored.entries[book.source or ""]
    if not isinstance(source, Plain):
        raise FormatError(book.source, "a tensor stored by itself", type(source).__name__)
    cut = Cut.of(source.shape, book.unit, book.by_row)
    rows_RL = source.numbers.floats().reshape(cut.rows, cut.row)
    windows = np.lib.stride_tricks.sliding_window_view(rows_RL, book.unit, axis=1)[:, :: book.stride]
    return np.ascontiguousarray(windows).reshape(-1, book.unit)


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
