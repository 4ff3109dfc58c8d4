"""A stream: some integers or floats of one kind, as bytes that say how to read them (FORMAT.md, clauses 5 and 8).

::

    numbers ─► form (integers with a step, byte planes of floats, …) ─► integers ─► table ─► ANS words
                                                                            └► lowest bits, unchanged

A stream knows neither its shape nor its count: these follow from the manifest. A stream may use the table of the stream
before it in its section, which is how small layers share one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mess.codec import ans
from mess.codec.bits import Reader, check_filling, pack, packed_size, unpack_part, unzigzag, varint, zigzag
from mess.codec.dtypes import DTYPES, NAMED, Dtype
from mess.codec.numbers import NumberArray
from mess.codec.tables import MAX_ALPHABET, Table, best_table, read_table
from mess.errors import FormatError

# forms of a stream
STEPPED, INTEGERS, PLANES = range(3)
# codings of a row of integers
CONSTANT, CODED, CODED_SHARED = range(3)
Range = tuple[int, int]  # the lowest and the highest integer that there may be
BYTE, INT32 = (0, 255), (-(1 << 31), (1 << 31) - 1)
FAST = 0.999  # of their bytes is what bits that are only copied count: the mantissas of floats are read much faster so
MAX_LOW_BITS = 57  # as many as fit into eight bytes at any place within the first
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass
class PreviousTable:
    """The table that the next stream of a section may use."""

    table: Table | None = None


def write_stream(numbers: NumberArray, previous: PreviousTable) -> bytes:
    """Return the bytes of a stream."""
    if numbers.step is not None:
        head = bytes([STEPPED]) + np.float32(numbers.step).astype("<f4").tobytes()
        return head + write_integers(numbers.values.astype(np.int64), previous)
    dtype = NAMED[numbers.dtype]
    form = dtype.number << 2
    if not dtype.is_float:
        return bytes([form | INTEGERS]) + write_integers(numbers.values.astype(np.int64), previous)
    little = np.ascontiguousarray(numbers.values).astype(numbers.values.dtype.newbyteorder("<"))
    bytes_BN = little.view(np.uint8).reshape(-1, dtype.bytes).T
    own = PreviousTable()  # planes differ too much from one another, and from all else, to share
    return bytes([form | PLANES]) + b"".join(write_integers(byte_N.astype(np.int64), own) for byte_N in bytes_BN)


ROUNDED = "rounded"  # multiples of one step


def peek_form(reader: Reader) -> str:
    """Return how the numbers of the stream that comes next are kept, without reading it: "rounded", or a dtype."""
    head = reader.content[reader.at] if reader.left else STEPPED
    return ROUNDED if head & 3 == STEPPED else DTYPES[min(head >> 2, len(DTYPES) - 1)].name


def read_stream(
    reader: Reader, count: int, previous: PreviousTable, *, skip: bool = False, finite: bool = True
) -> NumberArray | None:
    """Read a stream of `count` numbers; with `skip` only pass over it (its table is still noted).

    Args:
        finite: refuse NaN and infinity.

    Raises:
        FormatError: anything a writer would not write.
    """
    head = reader.byte()
    form, kind = head & 3, head >> 2
    if form == STEPPED:
        if kind:
            raise FormatError(reader.where, "no dtype beside a step", kind)
        (step,) = struct.unpack("<f", reader.take(4))
        if not math.isfinite(step) or step <= 0:
            raise FormatError(reader.where, "a finite step above 0", step)
        values = read_integers(reader, count, previous, INT32, np.int32, skip=skip)
        if values is None:
            return None
        largest = max(-int(values.min(initial=0)), int(values.max(initial=0)))
        if largest * step > FLOAT32_MAX:
            raise FormatError(reader.where, "numbers that float32 can hold", "larger ones")
        return NumberArray(values, "int32", step)
    if kind >= len(DTYPES) or form not in (INTEGERS, PLANES):
        raise FormatError(reader.where, "a known form and dtype", head)
    dtype = DTYPES[kind]
    if (form == PLANES) != dtype.is_float:
        raise FormatError(reader.where, "floats in planes, integers not", head)
    if form == PLANES:
        return _read_planes(reader, count, dtype, skip, finite)
    values = read_integers(reader, count, previous, (dtype.lowest, dtype.highest), dtype.array, skip=skip)
    return None if values is None else NumberArray(values, dtype.name, None)


def _read_planes(reader: Reader, count: int, dtype: Dtype, skip: bool, finite: bool) -> NumberArray | None:
    own = PreviousTable()
    bytes_NB = np.empty((0 if skip else count, dtype.bytes), dtype=np.uint8)
    for place in range(dtype.bytes):
        plane = read_integers(reader, count, own, BYTE, np.uint8, skip=skip)
        if plane is not None:
            bytes_NB[:, place] = plane
    if skip:
        return None
    numbers = NumberArray(bytes_NB.reshape(-1).view(dtype.array.newbyteorder("<")), dtype.name, None)
    if finite and not numbers.is_finite():
        raise FormatError(reader.where, "finite numbers", "NaN or infinity")
    return numbers


def write_integers(values_N: np.ndarray, previous: PreviousTable) -> bytes:
    """Return integers as: coding, lowest value, and, where they differ, low bits, table and words."""
    low = int(values_N.min()) if len(values_N) else 0
    if not len(values_N) or int(values_N.max()) == low:
        return bytes([CONSTANT]) + varint(zigzag(low))
    above_N = (values_N - low).astype(np.uint64)
    ways: list[tuple[float, int, Table, bool]] = []
    for width in _widths(int(above_N.max())):
        counts_A = np.bincount((above_N >> np.uint64(width)).astype(np.int64))
        for table, shared in ((best_table(counts_A), False), (previous.table, True)):
            if table is not None:
                favour = FAST if len(table.frequency_A) == 1 else 1.0
                side = 0 if shared else 8 * len(table.content)
                ways.append((favour * (table.cost(counts_A) + side + width * len(values_N)), width, table, shared))
    _, width, table, shared = min(ways, key=lambda way: way[0])
    symbols_N = (above_N >> np.uint64(width)).astype(np.int64)
    lanes = ans.encode(symbols_N, table.frequency_A)
    out = [bytes([CODED_SHARED if shared else CODED]), varint(zigzag(low)), bytes([width])]
    if not shared:
        out.append(table.content)
        previous.table = table
    if ans.most_lanes(len(values_N)) > 1:
        out.append(varint(len(lanes)))
    out += [varint(len(words)) for words in lanes]
    out += [words.astype("<u4").tobytes() for words in lanes]
    out.append(pack(above_N, width))
    return b"".join(out)


def read_integers(
    reader: Reader,
    count: int,
    previous: PreviousTable,
    within: Range,
    dtype: npt.DTypeLike = np.int64,
    *,
    skip: bool = False,
) -> np.ndarray | None:
    """Undo `write_integers`: `count` integers, all of them `within` (lowest, highest).

    They are made block by block: beside what is returned, nothing grows with `count`.

    Args:
        dtype: of what is returned; it must hold all that is within.
        skip: pass over them, and return None.
    """
    coding = reader.byte()
    low = unzigzag(reader.varint(1 << 64))
    if not within[0] <= low <= within[1]:
        raise FormatError(reader.where, f"integers from {within[0]} to {within[1]}", low)
    if coding == CONSTANT:
        return None if skip else np.full(count, low, dtype)
    if coding not in (CODED, CODED_SHARED) or not count:
        raise FormatError(reader.where, "a coding of 0, 1 or 2, and 0 for no numbers", coding)
    width = reader.byte()
    if width > MAX_LOW_BITS:
        raise FormatError(reader.where, f"at most {MAX_LOW_BITS} low bits", width)
    if coding == CODED:
        previous.table = read_table(reader)
    table = previous.table
    if table is None:
        raise FormatError(reader.where, "a table before a stream that shares it", "none")
    most = ans.most_lanes(count)
    lanes = reader.varint(most + 1) if most > 1 else 1
    if not lanes:
        raise FormatError(reader.where, "at least one lane", 0)
    lengths = [reader.varint(1 << 40) for _ in range(lanes)]
    words = [reader.take(4 * length) for length in lengths]
    rest = reader.take(packed_size(count, width))
    if skip:
        return None
    check_filling(rest, count, width)
    may_be_beyond = low + (len(table.frequency_A) << width) > within[1] + 1  # else no symbol of the table leads there
    values_N = np.empty(count, dtype)
    for start, symbols_S in ans.decode([np.frombuffer(w, "<u4") for w in words], count, table.frequency_A):
        end = start + len(symbols_S)
        above_S = symbols_S.astype(np.uint64)
        if width:
            above_S <<= np.uint64(width)
            above_S += unpack_part(rest, start, end, width).view(np.uint64)
        if may_be_beyond and len(symbols_S):
            largest = int(above_S.max()) + low
            if (int(symbols_S.max()) + 1) << width > 1 << 64 or largest > within[1]:
                raise FormatError(reader.where, f"integers from {within[0]} to {within[1]}", "larger ones")
        integers_S = above_S.view(np.int64)
        integers_S += low  # modulo 2^64, and so exact
        values_N[start:end] = integers_S
    return values_N


def _widths(largest: int) -> Sequence[int]:
    """Return how many low bits to try leaving uncoded: none of a small alphabet, about what noise is, all."""
    need = max(0, largest.bit_length() - (MAX_ALPHABET.bit_length() - 1))
    wide = max(0, largest.bit_length() - 8)
    widths = (0, wide - 4, wide, wide + 3, largest.bit_length())
    return sorted({min(MAX_LOW_BITS, max(need, width)) for width in widths})
