"""A decoder written from docs/FORMAT.md alone, clause by clause: plain Python and NumPy, nothing of MESS, slow.

It reads whole files that say everything themselves (5.3). Tests hold it against the golden files of every version.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from bisect import bisect_right

import numpy as np
import zstandard

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
NUMPY = {**{name: name for name in DTYPES}, "bfloat16": "uint16", "bool": "uint8"}


class Bytes:
    """Clause 1: what a section is read with."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.table = content, 0, None

    def take(self, count: int) -> bytes:
        assert 0 <= count <= len(self.content) - self.at
        self.at += count
        return self.content[self.at - count : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            (part,) = self.take(1)
            number |= (part & 127) << shift
            shift += 7
            if part < 128:
                return number

    def zigzag(self) -> int:
        number = self.varint()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def packed(self, count: int, width: int) -> list[int]:
        whole = int.from_bytes(self.take((count * width + 7) // 8), "little")
        return [whole >> (n * width) & ((1 << width) - 1) for n in range(count)]


class Coder:
    """Clauses 6.1 to 6.3."""

    def __init__(self, words: list[int]) -> None:
        self.words, self.x = words, 0
        for _ in range(2):
            if self.words:
                self.x = self.x << 32 | self.words.pop()

    def symbol(self, sums: list[int]) -> int:
        q = self.x & 0xFFFFFF
        s = bisect_right(sums, q) - 1
        self.x = (self.x >> 24) * (sums[s + 1] - sums[s]) + q - sums[s]
        if self.x < 1 << 32 and self.words:
            self.x = self.x << 32 | self.words.pop()
        return s

    def end(self) -> None:
        assert self.x == 0
        assert not self.words


def words_of(content: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(content) // 4}I", content))


def table(read: Bytes) -> list[int]:
    """Clause 7: the sums of the frequencies before each symbol, and 2^24."""
    size, (kind,) = read.varint(), read.take(1)
    if kind == 0:
        weights = [1] * size
    elif kind == 1:
        centre = read.varint()
        ratio, fall = struct.unpack("<HH", read.take(4))
        side, weight = [], 1 << 32
        for _ in range(size):
            side.append(weight)
            weight, ratio = weight * ratio >> 16, ratio * (65536 - fall) >> 16
        weights = [side[abs(symbol - centre)] for symbol in range(size)]
    else:
        m, v = divmod(read.take(1)[0], 16)
        weights = [
            0 if code == 0 else (2**m + (code - 1) % 2**m) * 2 ** ((code - 1) // 2**m) for code in read.packed(size, v)
        ]
    total = sum(weights)
    if not total:
        weights, total = [1] * size, size
    frequencies = [1 + weight * (2**24 - size) // total for weight in weights]
    frequencies[weights.index(max(weights))] += 2**24 - sum(frequencies)
    sums = [0]
    for frequency in frequencies:
        sums.append(sums[-1] + frequency)
    return sums


def integers(read: Bytes, count: int) -> list[int]:
    """Clause 8.5; the table last read is kept with what is read from."""
    (coding,) = read.take(1)
    low = read.zigzag()
    if coding == 0:
        return [low] * count
    (bits,) = read.take(1)
    if coding == 1:
        read.table = table(read)
    lanes = read.varint() if count // 16384 > 1 else 1
    lengths = [read.varint() for _ in range(lanes)]
    symbols: list[int] = []
    for lane, length in enumerate(lengths):
        coder = Coder(words_of(read.take(4 * length)))
        symbols += [coder.symbol(read.table) for _ in range(count * lane // lanes, count * (lane + 1) // lanes)]
        coder.end()
    return [(s << bits) + rest + low for s, rest in zip(symbols, read.packed(count, bits), strict=True)]


def stream(read: Bytes, count: int) -> tuple[np.ndarray, str]:
    """Clause 8: numbers and their dtype; those with a step are float32 (9.1)."""
    (head,) = read.take(1)
    form, dtype = head & 3, DTYPES[head >> 2]
    if form == 0:
        (step,) = struct.unpack("<f", read.take(4))
        return np.array(integers(read, count), np.float32) * np.float32(step), "float32"
    if form == 1:
        return np.array(integers(read, count), NUMPY[dtype]), dtype
    own = Bytes(read.content)
    own.at = read.at
    size = np.dtype(NUMPY[dtype]).itemsize
    planes = [integers(own, count) for _ in range(size)]
    read.at = own.at
    raw = np.array(planes, np.uint8).T.tobytes()
    return np.frombuffer(raw, np.dtype(NUMPY[dtype]).newbyteorder("<")), dtype


def floats(numbers: tuple[np.ndarray, str]) -> np.ndarray:
    values, dtype = numbers
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != "bfloat16":
        return values.astype(NUMPY[dtype])
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def sections_of(content: bytes) -> dict[int, tuple[int, bytes]]:
    """Clauses 2 and 3."""
    magic, major, _, flags, count, length = struct.unpack("<8sBBHHQ", content[:22])
    assert (magic, major, flags, length) == (bytes.fromhex("894D4553530D0A1A"), 1, 0, len(content))
    assert hashlib.sha256(content[:22] + bytes(32) + content[54:]).digest() == content[22:54]
    found, end = {}, 54 + 24 * count
    for n in range(count):
        kind, coder, _, crc, offset, size = struct.unpack("<BBHIQQ", content[54 + 24 * n : 78 + 24 * n])
        assert offset == end
        end += size
        assert zlib.crc32(content[offset:end]) == crc
        found[kind] = (coder, content[offset:end])
    assert end == length
    return found


def expansions(read: Bytes, coder: int, sizes: list[tuple[int, int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clause 10: the integers and the steps of each tensor, (R, C, K) both."""
    steps = [
        np.full(size, step, np.float32) for size, step in zip(sizes, floats(stream(read, len(sizes))), strict=True)
    ]
    read.table = None
    axes = [0] * len(sizes)

    def by_axis(bits: tuple[int, ...], axis: int) -> list[list[int]]:
        """Numbers of the axes from this one on, as far as the bits of a tensor say that it has them."""
        counts = [
            size[bit - axis] if mask >> bit & 1 else 0 for mask, size in zip(axes, sizes, strict=True) for bit in bits
        ]
        numbers = iter(integers(read, sum(counts)))
        read.table = None
        return [[next(numbers) for _ in range(count)] for count in counts]

    if coder > 1:  # 10.9
        axes = integers(read, len(sizes))
        read.table = None
        exponents = [own or [0] for own in by_axis((0, 1, 2), 0)]
        quarters = [
            struct.unpack("<f", struct.pack("<I", bits))[0] for bits in (0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD)
        ]
        for n, step in enumerate(steps):
            for r, c, k in np.ndindex(step.shape):
                own = exponents[3 * n : 3 * n + 3]
                i, m = divmod(sum(e[at if len(e) > 1 else 0] for e, at in zip(own, (r, c, k), strict=True)), 4)
                step[r, c, k] = np.float32(step[r, c, k]) * np.float32(quarters[m]) * np.float32(2.0**i)
    changes = iter(integers(read, sum(k for _, _, k in sizes)))
    read.table = None
    last: dict[int, list[int]] = {}
    levels = []
    for _, _, k in sizes:
        last[k] = [level + next(changes) for level in last.get(k, [48] * k)]
        levels.append(last[k])
    told, starts = [], []
    if coder == 3:  # 10.10
        told = by_axis((3, 4), 3)
        starts = integers(read, len(sizes))
    mask = int.from_bytes(read.take(6), "little")
    tables = {bit: (read.zigzag(), table(read)) for bit in range(48) if mask >> bit & 1}
    lanes = [read.take(size) for size in [read.varint() for _ in sizes]]
    found = []
    for n, (size, own, lane, step) in enumerate(zip(sizes, levels, lanes, steps, strict=True)):
        if coder == 3:
            q = told_tensor(size, own, told[2 * n], told[2 * n + 1], starts[n], lane, tables)
        else:
            q = one_tensor(size, own, lane, tables)
        found.append((q, step))
    return found


def in_order(coder: Coder, q: np.ndarray, contexts: dict[tuple[int, int, int], int], tables: dict) -> None:
    """Clauses 10.3, 10.5 and 10.7: decode the integers that have contexts, by table."""
    groups: dict[int, list[tuple[int, int, int]]] = {}
    for place, context in contexts.items():
        groups.setdefault(max((bit for bit in tables if bit <= context), default=min(tables)), []).append(place)
    for bit in sorted(groups):
        low, sums_A = tables[bit]
        for place in groups[bit]:
            q[place] = low + (coder.symbol(sums_A) if len(sums_A) > 2 else 0)


def told_tensor(
    size: tuple[int, int, int],
    levels: list[int],
    of_row: list[int],
    of_column: list[int],
    start: int,
    lane: bytes,
    tables: dict,
) -> np.ndarray:
    """Clauses 10.11 and 10.12."""
    rows, columns, terms = size
    coder = Coder(words_of(lane + bytes(-len(lane) % 4)))
    q = np.zeros(size, dtype=int)
    contexts = {}
    for k in range(terms):
        of_term = {}
        for r in range(rows):
            for c in range(columns):
                level = levels[k] + (of_row[r] if of_row else 0) + (of_column[c] if of_column else 0)
                of_term[r, c, k] = min(max(level, 0), 95) >> 1
        in_order(coder, q, of_term, tables)
        contexts |= of_term
    coder.end()
    if start < 48:
        for c in range(columns):
            for k in range(terms):
                bits = [0, 0, 0]
                for r in range(rows):
                    i = int(q[r, c, k])
                    if contexts[r, c, k] < start:
                        q[r, c, k] = 4 * i
                    else:
                        q[r, c, k] = -(4 * i + 1) if bits[-1] else 4 * i + 1
                        bits.append((i % 2) ^ bits[-2] ^ bits[-3])
    return q


def one_tensor(size: tuple[int, int, int], levels: list[int], lane: bytes, tables: dict) -> np.ndarray:
    """Clauses 10.3 to 10.7."""
    rows, columns, terms = size
    edges = [math.ceil(64 * 2 ** ((j - 0.5) / 4)) for j in range(-13, 21)]
    coder = Coder(words_of(lane + bytes(-len(lane) % 4)))
    q = np.zeros(size, dtype=int)
    stages = [(0, range(rows // 2)), (0, range(rows // 2, rows)), *((k, range(rows)) for k in range(1, terms))]
    for k, band in stages:
        sums = abs(q).sum((1, 2)).tolist(), abs(q).sum((0, 2)).tolist()
        total = sum(sums[0])

        def h(s: int, n: int, total: int = total) -> int:
            return bisect_right(edges, s * 64 * n // total + 6) - 14 if total else 0

        of_row = [h(s, rows) if k else 0 for s in sums[0]]
        of_column = [h(s, columns) for s in sums[1]]
        contexts = {
            (r, c, k): min(max((levels[k] + of_row[r] + of_column[c]) >> 1, 0), 47)
            for r in band
            for c in range(columns)
        }
        in_order(coder, q, contexts, tables)
    coder.end()
    return q


def decode(content: bytes) -> dict[str, tuple[np.ndarray, str]]:
    """Return all tensors of a file and their dtypes; bfloat16 as uint16 of its bits."""
    sections = sections_of(content)
    coder, text = sections.pop(1)
    sections.pop(9, None)  # 12.1: who wants tensors leaves the graph unread
    manifest = json.loads(zstandard.decompress(text) if coder else text)
    read = {kind: Bytes(body) for kind, (_, body) in sections.items()}
    rows, books = manifest["tensors"], manifest["books"]
    sources = {book[0] for book in books}
    own = [floats(stream(read[2], book[4])) if book[4] else None for book in books]
    plain = {}
    raw: dict[str, list] = {}
    for place, (name, kind, *rest) in enumerate(rows):
        if kind == "T":
            continue
        count = math.prod(rest[0])
        if kind == "P":
            plain[place] = stream(read[2 if place in sources else 6], count)
        elif kind[0] in "Bb":
            raw[name] = [floats(stream(read[7], count)) for _ in range(2)]
        elif kind[0] in "MC":
            _, unit, _, by_row, _ = books[int(kind[1:])]
            row = count // rest[0][0] if by_row else count
            units = count // row * -(-row // unit)
            raw[name] = [stream(read[s], units) for s in ((3, 4, 5) if kind[0] == "M" else (3,))]

    def references(number: int) -> np.ndarray:
        source, unit, stride, by_row, _ = books[number]
        if source < 0:
            return own[number].reshape(-1, unit)
        shape, values = rows[source][2], floats(plain[source])
        row = len(values) // shape[0] if by_row else len(values)
        return np.array(
            [line[at : at + unit] for line in values.reshape(-1, row) for at in range(0, row - unit + 1, stride)]
        )

    summed = [(name, int(kind[1:]), rest) for name, kind, *rest in rows if kind[0] == "E"]
    sizes = []
    for _, book, (shape, _) in summed:
        refs = references(book)
        sizes.append((shape[0], math.prod(shape[1:]) // refs.shape[1], len(refs)))
    found: dict[str, tuple[np.ndarray, str]] = {}
    for (name, book, (shape, dtype)), (q, step) in zip(
        summed, expansions(read[8], sections[8][0], sizes) if summed else [], strict=True
    ):
        t = np.zeros((*q.shape[:2], references(book).shape[1]), np.float32)
        for k, reference in enumerate(references(book)):
            t = t + (q[:, :, k].astype(np.float32) * step[:, :, k])[:, :, None] * reference
        found[name] = (rounded(t.reshape(shape), DTYPES[dtype]), DTYPES[dtype])
    for place, (name, kind, *rest) in enumerate(rows):
        if kind == "P":
            values, dtype = plain[place]
            wanted = DTYPES[rest[1]]
            same = dtype == wanted
            found[name] = ((values if same else rounded(floats((values, dtype)), wanted)).reshape(rest[0]), wanted)
        elif kind[0] in "Bb":
            scale, shift = raw[name]
            weight = scale * np.float32(np.sqrt(1 + manifest["eps"][int(kind[1:])]))
            parts = {
                "weight": weight,
                "bias": shift,
                "running_mean": np.zeros_like(shift),
                "running_var": np.ones_like(shift),
            }
            found |= {f"{name}.{part}" if name else part: (array, "float32") for part, array in parts.items()}
            if kind[0] == "B":
                found[f"{name}.num_batches_tracked"] = (np.zeros((), np.int64), "int64")
        elif kind[0] in "MC":
            refs, (shape, dtype) = references(int(kind[1:])), rest
            _, unit, _, by_row, _ = books[int(kind[1:])]
            row = math.prod(shape) // shape[0] if by_row else math.prod(shape)
            index = raw[name][0][0]
            lengths = [min(unit, row - at) for _ in range(math.prod(shape) // row) for at in range(0, row, unit)]
            units = [refs[k][:length] for k, length in zip(index.tolist(), lengths, strict=True)]
            if kind[0] == "M":
                scale, offset = (floats(numbers) for numbers in raw[name][1:])
                units = [unit * a + b for unit, a, b in zip(units, scale, offset, strict=True)]
            found[name] = (rounded(np.concatenate(units).reshape(shape), DTYPES[dtype]), DTYPES[dtype])
    found |= {name: found[rest[0]] for name, kind, *rest in rows if kind == "T"}
    assert all(reader.at == len(reader.content) for reader in read.values())
    return found
