"""How much memory mess.h asks for to read a network, without MESS_FAST: bounds that hold on every machine.

The sizes of the C structures and what is taken from scratch stand in mess.h (`mess_i_item`, `mess_i_plan_of`); a test
compiles it and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess.arithmetic.cut import Cut
from mess.arithmetic.levels import fitted_levels
from mess.codec import BatchNorm, Expanded, Matched, NumberArray, Plain, StoredModel
from mess.codec.bits import Reader
from mess.codec.dtypes import DTYPES, NAMED
from mess.codec.expansion import tables_of
from mess.codec.info import streams_of
from mess.codec.model_file import EXPANSIONS, REFERENCES, open_model
from mess.codec.streams import PreviousTable, peek_form, read_stream
from mess.codec.tables import Table

ITEM, BOOK, TERM, CLUSTER = 48, 56, 16, 8  # bytes of records, where pointers take eight
SUMS = 128  # that are kept of a table
FLOATS = frozenset(dtype.name for dtype in DTYPES if dtype.is_float)
BYTES_TABLE = 131  # sums of a table of bytes, levels or exponents, at most


@dataclass(frozen=True)
class Sizes:
    """Bytes: what `mess_open` keeps, what `mess_decode` needs beside its output, and the largest output."""

    memory: int
    scratch: int
    output: int


def sizes_of(stored: StoredModel, content: bytes) -> Sizes:
    """Return what a program must set aside to decode a network tensor by tensor.

    Args:
        stored: what is in the file.
        content: the file, which says everything itself.
    """
    expanded = [entry for entry in stored.entries.values() if isinstance(entry, Expanded)]
    terms = sum(entry.integers_RCK.shape[2] for entry in expanded)
    told = sum(len(own) for entry in expanded for own in _told(entry) if own is not None)
    memory = 8 + ITEM * len(stored.entries) + BOOK * len(stored.books)
    sums, tables = _largest_tables(content)
    if expanded:
        # steps, axes, trellises; levels, exponents: each to a whole 8 bytes
        memory += 6 * len(expanded) + terms + told + 48
        memory += max(4 * BYTES_TABLE, CLUSTER * tables)
    scratch = max((_scratch(stored, entry) for entry in stored.entries.values()), default=0)
    output = max((_output(entry) for entry in stored.entries.values()), default=0)
    return Sizes(_whole(memory), _whole(8 + _whole(4 * sums) + scratch), _whole(output))


def _whole(size: int) -> int:
    return (size + 7) // 8 * 8


def _numbers(entry: object) -> Iterator[NumberArray]:
    if isinstance(entry, Plain):
        yield entry.numbers
    elif isinstance(entry, BatchNorm):
        yield from (entry.scale, entry.shift)
    elif isinstance(entry, Matched):
        yield from (numbers for numbers in (entry.scale_N, entry.offset_N) if numbers is not None)


def _told(entry: Expanded) -> Iterator[np.ndarray | None]:
    """Yield exponents, then levels of rows and columns: those that the writer finds where there are none."""
    levels = entry.levels or fitted_levels(np.abs(entry.integers_RCK))
    yield from (*entry.exponents, levels.rows_R, levels.columns_C)


class _Noted(PreviousTable):
    """Keeps all tables of a section."""

    def __init__(self) -> None:
        self.tables: list[Table] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "table" and value is not None:
            self.tables.append(value)
        super().__setattr__(name, value)


def _largest_tables(content: bytes) -> tuple[int, int]:
    """Return how many sums C keeps of the largest table, and how many tables the sums of references share."""
    contents, sections, where = open_model(content, layout=None)
    readers = {kind: Reader(section.content, where) for kind, section in sections.items()}
    noted = {kind: _Noted() for kind in sections}
    streams = [(REFERENCES, count) for count in contents.own_numbers if count]
    streams += [stream for item in contents.items for stream in streams_of(item, contents)]
    largest = 2
    for kind, count in streams:
        if peek_form(readers[kind]) in FLOATS:  # in planes of bytes, each with a table of its own
            largest = BYTES_TABLE
        read_stream(readers[kind], count, noted[kind], skip=True)
    sums = [contents.expansion(item) for item in contents.items if item.kind == "E"]
    of_sums = tables_of(readers[EXPANSIONS], sections[EXPANSIONS].coder, sums) if sums else []
    tables = [*of_sums, *(table for note in noted.values() for table in note.tables)]
    return max([largest, *map(_sums, tables)]), len(of_sums)


def _sums(table: Table) -> int:
    """Return how many sums of its frequencies C keeps, with room for those between two of them."""
    size, step = len(table.frequency_A), 1
    while size > SUMS * step:
        step *= 2
    return -(-size // step) + 1 + (step if step > 1 else 0)


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
        total += rows + 2 * columns + TERM * terms
        ends = [(int(own.min()), int(own.max())) for own in entry.exponents if own is not None and own.size]
        total += 4 * (sum(high - low for low, high in ends) + 1)
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
        return int(np.prod(entry.shape, dtype=np.int64)) * NAMED[entry.dtype].bytes
    return 0
