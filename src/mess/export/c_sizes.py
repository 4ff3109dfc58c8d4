"""How much memory mess.h asks for to read a network, without MESS_FAST: bounds that hold on every machine.

The sizes of the C structures and what is taken from scratch stand in mess.h (`mess_i_item`, `mess_i_plan_of`); a test
compiles it and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mess.codec import BatchNorm, Codebook, Expanded, Matched, NumberArray, Plain, StoredModel
from mess.codec.model import Cut
from mess.codec.quantize import FLOATS

ITEM, BOOK = 56, 64  # bytes of a tensor's record and of a codebook's, where pointers take eight
BYTES_TABLE = 256  # symbols of a table of bytes, levels or exponents, at most
STEP_TABLE = 382 * 4  # bytes of the steps of all exponents
LARGEST_ALPHABET = 1 << 16


@dataclass(frozen=True)
class Sizes:
    """Bytes: what `mess_open` keeps, what `mess_decode` needs beside its output, and the largest output."""

    memory: int
    scratch: int
    output: int


def sizes_of(stored: StoredModel) -> Sizes:
    """Return what a program must set aside to decode a network tensor by tensor."""
    table = _whole(4 * (_largest_table(stored) + 1))
    expanded = [entry for entry in stored.entries.values() if isinstance(entry, Expanded)]
    terms = sum(entry.integers_RCK.shape[2] for entry in expanded)
    exponents = sum(len(own) for entry in expanded for own in entry.exponents if own is not None)
    memory = 8 + ITEM * len(stored.entries) + BOOK * len(stored.books)
    memory += 5 * len(expanded) + terms + exponents + 40  # steps, axes, levels, each to a whole 8 bytes
    scratch = max((_scratch(stored, entry) for entry in stored.entries.values()), default=0)
    output = max((_output(entry) for entry in stored.entries.values()), default=0)
    return Sizes(_whole(memory + table), _whole(8 + table + scratch), _whole(output))


def _whole(size: int) -> int:
    return (size + 7) // 8 * 8


def _numbers(entry: object) -> Iterator[NumberArray]:
    if isinstance(entry, Plain):
        yield entry.numbers
    elif isinstance(entry, BatchNorm):
        yield from (entry.scale, entry.shift)
    elif isinstance(entry, Matched):
        yield from (numbers for numbers in (entry.scale_N, entry.offset_N) if numbers is not None)
    elif isinstance(entry, Codebook) and entry.numbers is not None:
        yield entry.numbers


def _largest_table(stored: StoredModel) -> int:
    """Return a bound on the symbols of any table: of bytes, or of integers as far as they differ."""
    largest = BYTES_TABLE
    for holder in (*stored.entries.values(), *stored.books):
        rows = [n.values for n in _numbers(holder) if n.step is not None or n.dtype not in FLOATS]
        rows += [holder.index_N] if isinstance(holder, Matched) else []
        rows += [holder.integers_RCK] if isinstance(holder, Expanded) else []
        for values in rows:
            if values.size:
                largest = max(largest, min(LARGEST_ALPHABET, int(values.max()) - int(values.min()) + 1))
    ranges = [(int(e.integers_RCK.min()), int(e.integers_RCK.max())) for e in stored.entries.values()
              if isinstance(e, Expanded) and e.integers_RCK.size]  # fmt: skip
    if ranges:  # tables are shared by all layers
        largest = max(largest, max(high for _, high in ranges) - min(low for low, _ in ranges) + 1)
    return largest


def _scratch(stored: StoredModel, entry: object) -> int:
    """Return the bytes a tensor takes beside a table (see `mess_i_plan_of`)."""
    wide = [8 * len(n) for n in _numbers(entry) if n.dtype == "float64" and n.step is None]
    if isinstance(entry, Plain):
        if entry.numbers.step is None and entry.numbers.dtype == entry.dtype:
            return 0
        return max(wide, default=0) + (0 if entry.dtype == "float32" else 4 * len(entry.numbers)) + 16
    if not isinstance(entry, Matched | Expanded):
        return max(wide, default=0)
    book = stored.books[entry.book]
    source = stored.entries[book.source].numbers if book.source is not None else book.numbers  # type: ignore[union-attr]
    assert source is not None
    if source.dtype == "float64" and source.step is None:
        wide.append(8 * len(source))
    count = int(np.prod(entry.shape, dtype=np.int64))
    total = max(wide, default=0) + 4 * len(source) + (0 if entry.dtype == "float32" else 4 * count)
    if isinstance(entry, Expanded):
        rows, columns, terms = entry.integers_RCK.shape
        total += 9 * (rows + columns) + 4 * terms * (-(-book.unit // 4) * 4) + 4 * terms
        total += STEP_TABLE if entry.exponents.given else 0
        if terms > book.unit:
            total += 4 * rows * columns * terms
        return total + 64
    cut = Cut.of(entry.shape, book.unit, book.by_row)
    whole = cut.row and cut.row % cut.unit == 0 and book.unit >= (1 if entry.scale_N is None else 3)
    return total + (0 if whole else 12 * cut.units) + 64


def _output(entry: object) -> int:
    if isinstance(entry, BatchNorm):
        return 8 * len(entry.scale)
    if isinstance(entry, Plain | Matched | Expanded):
        size = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
        return int(np.prod(entry.shape, dtype=np.int64)) * size.get(entry.dtype, 1)
    return 0
