"""A stored network as C: arrays, records that say how to read them, and the decoder of `decoder.h` in front.

What a `.mess` file says is written down as it is, no longer entropy coded, so that one unit can be decoded alone: an
index, a scale and an offset for each, or the integers of a sum of references. The arithmetic is that of FORMAT.md,
clauses 9 and 10.8.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources

import numpy as np

from mess.codec import BatchNorm, Codebook, Entry, Expanded, Matched, NumberArray, Plain, StoredModel, Tied, reconstruct
from mess.codec.model import Cut, joined
from mess.export.c_names import Names

NOTHING = "{0, 0, 0}"
INTEGERS = {np.dtype(kind): f"{kind}_t" for kind in ("int8", "int16", "int32", "uint8", "uint16", "uint32")}
# tensors that are not float32 are written decoded, in their own bits
OWN_TYPES = {"float64": "double", "int64": "int64_t", "float16": "uint16_t", "bfloat16": "uint16_t", "bool": "uint8_t"}
# bytes of a record where pointers take four
BOOK_RECORD, TENSOR_RECORD = 28, 48
LINE = 118


@dataclass
class Source:
    """C source of a network.

    Attributes:
        lines: of the source.
        names: identifier of each tensor that is not part of a BatchNorm layer.
        batch_norms: of each BatchNorm layer, by its prefix: identifiers of scale and shift.
        decoded: tensors that are not float32, which are plain arrays of their own bits.
        array_bytes: bytes of all arrays; `record_bytes` of what tells how to read them, with pointers of four bytes;
            `float_bytes` of the same tensors if they were arrays of their own dtype.
    """

    lines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    batch_norms: dict[str, tuple[str, str]] = field(default_factory=dict)
    decoded: list[str] = field(default_factory=list)
    array_bytes: int = 0
    record_bytes: int = 0
    float_bytes: int = 0


def decoder() -> str:
    """Return the decoder, which is the same in every header."""
    return resources.files("mess.export").joinpath("decoder.h").read_text(encoding="ascii")


def make_source(stored: StoredModel, stem: str, about: list[str]) -> Source:
    """Return a network as a C header.

    Args:
        stored: as a file holds it.
        stem: what all identifiers begin with.
        about: lines for the comment on top.
    """
    return _Writer(stored, stem).source(about)


class _Writer:
    def __init__(self, stored: StoredModel, stem: str) -> None:
        self._stored, self._made = stored, Source()
        self._identifiers = Names(stem, re.findall(r"\bmess_\w+", decoder()))
        self._values: dict[str, str] = {}  # of tensors stored by themselves, for the codebooks that are cut from them
        self._books: list[str] = []

    def source(self, about: list[str]) -> Source:
        entries, made = self._stored.entries, self._made
        guard = f"MESS_{self._identifiers.prefix.upper()}_H"
        for name, entry in entries.items():  # tensors get their names before the arrays they are made of
            if isinstance(entry, BatchNorm):
                scale, shift = (self._identifiers.take(joined(name, part)) for part in ("scale", "shift"))
                made.batch_norms[name] = scale, shift
            else:
                made.names[name] = self._identifiers.take(name)
        sources = {book.source for book in self._stored.books}
        for name in [name for name in entries if name in sources]:
            self._tensor(name, entries[name])
        for number, book in enumerate(self._stored.books):
            self._book(number, book)
        for name in [name for name in entries if name not in sources]:
            self._tensor(name, entries[name])
        head = [
            "/*",
            *(f" * {_comment(line)}".rstrip() for line in about),
            " */",
            f"#ifndef {guard}",
            f"#define {guard}",
        ]
        made.lines = [*head, *decoder().splitlines(), "", *made.lines, "#endif"]
        return made

    def _tensor(self, name: str, entry: Entry) -> None:
        made = self._made
        if isinstance(entry, BatchNorm):
            self._say(f"/* BatchNorm {_comment(name)}: y = x * scale + shift */")
            for identifier, numbers in zip(made.batch_norms[name], (entry.scale, entry.shift), strict=True):
                self._plain(identifier, Plain((len(numbers),), "float32", numbers))
            return
        identifier = made.names[name]
        if isinstance(entry, Tied):
            self._say(f"#define {identifier} {made.names[entry.to]}  /* tied */", "")
            return
        self._say(f"/* {_comment(name)}: {' x '.join(map(str, entry.shape)) or 'one number'}, {entry.dtype} */")
        if entry.dtype != "float32" or (isinstance(entry, Expanded) and entry.exponents.given):
            self._decoded(name, identifier)
        elif isinstance(entry, Plain):
            self._values[name] = self._plain(identifier, entry)
        else:
            self._by_reference(identifier, entry)

    def _book(self, number: int, book: Codebook) -> None:
        identifier = self._identifiers.take(f"book {number}")
        self._books.append(identifier)
        if book.source is None:
            assert book.numbers is not None
            numbers, row = self._numbers(identifier, "values", book.numbers), len(book.numbers)
            count, stride = row // book.unit, book.unit
        else:
            source = self._stored.entries[book.source]
            assert isinstance(source, Plain)
            cut = Cut.of(source.shape, book.unit, book.by_row)
            count, stride, row = cut.references(book.stride), book.stride, cut.row
            numbers = self._values.get(book.source) or self._numbers(identifier, "values", source.numbers)
        self._made.record_bytes += BOOK_RECORD
        self._say(f"static const mess_book {identifier} = {{{numbers}, {count}, {book.unit}, {stride}, {row}}};", "")

    def _plain(self, identifier: str, entry: Plain) -> str:
        """Write a tensor stored by itself, with kernels or rows as units; return what reads its array."""
        size = math.prod(entry.shape)
        unit = math.prod(entry.shape[2:] if len(entry.shape) > 2 else entry.shape[1:])
        numbers = self._numbers(identifier, "values", entry.numbers)
        self._record(identifier, size, f"{size}, {unit or 1}, 0, 0, 0, {numbers}, {NOTHING}")
        return numbers

    def _by_reference(self, identifier: str, entry: Matched | Expanded) -> None:
        book, size = self._stored.books[entry.book], math.prod(entry.shape)
        if isinstance(entry, Expanded):
            row, index = size, "0, 0"
            integers_N = entry.integers_RCK.reshape(-1)
            scale, offset = self._numbers(identifier, "terms", NumberArray(integers_N, "int32", entry.step)), NOTHING
        else:
            row = Cut.of(entry.shape, book.unit, book.by_row).row
            index_N = entry.index_N.astype(np.min_scalar_type(int(entry.index_N.max(initial=0))))
            index = f"{self._array(identifier, 'index', index_N)}, {index_N.itemsize}"
            scale, offset = (
                NOTHING if numbers is None else self._numbers(identifier, part, numbers)
                for part, numbers in (("scale", entry.scale_N), ("offset", entry.offset_N))
            )
        self._record(identifier, size, f"{row}, {book.unit}, &{self._books[entry.book]}, {index}, {scale}, {offset}")

    def _record(self, identifier: str, size: int, fields: str) -> None:
        self._made.record_bytes += TENSOR_RECORD
        self._made.float_bytes += 4 * size
        self._say(f"static const mess_tensor {identifier} = {{{size}, {fields}}};", "")

    def _decoded(self, name: str, identifier: str) -> None:
        """Write a tensor that is not float32 as what it is: the bits of float16 and bfloat16, else its numbers."""
        array, dtype = self._tensors[name]
        self._made.decoded.append(name)
        self._made.float_bytes += array.nbytes
        kind = OWN_TYPES.get(dtype, f"{dtype}_t")
        self._write_array(identifier, kind, (array.view(np.uint16) if dtype == "float16" else array).reshape(-1))
        self._say("")

    @cached_property
    def _tensors(self) -> dict[str, tuple[np.ndarray, str]]:
        return reconstruct(self._stored)

    def _numbers(self, identifier: str, part: str, numbers: NumberArray) -> str:
        """Write an array and return the `mess_numbers` that reads it."""
        values, step = numbers.values, np.float32(numbers.step or 0)
        if numbers.step is not None:
            values = values.astype(_narrowest(values))
        elif numbers.dtype == "float16":
            values = values.view(np.uint16)
        else:
            values = numbers.floats()
        return f"{{{self._array(identifier, part, values)}, {_literal(step)}, {values.itemsize}}}"

    def _array(self, identifier: str, part: str, values_N: np.ndarray) -> str:
        if not len(values_N):
            return "0"
        name = self._identifiers.take(f"{identifier.removeprefix(self._identifiers.prefix)} {part}")
        self._write_array(name, INTEGERS.get(values_N.dtype, "float"), values_N)
        return name

    def _write_array(self, name: str, kind: str, values_N: np.ndarray) -> None:
        """Write an array; C has none without numbers, so these get one."""
        values_N = values_N if len(values_N) else np.zeros(1, values_N.dtype)
        self._made.array_bytes += values_N.nbytes
        words = (
            [_literal(x) for x in values_N] if values_N.dtype.kind == "f" else [_integer(x) for x in values_N.tolist()]
        )
        self._say(f"static const {kind} {name}[{len(words)}] = {{")
        a_line = max(1, LINE // (max(map(len, words)) + 1))
        self._made.lines += [",".join(words[at : at + a_line]) + "," for at in range(0, len(words), a_line)]
        self._say("};")

    def _say(self, *lines: str) -> None:
        self._made.lines += lines


def _narrowest(integers_N: np.ndarray) -> type[np.signedinteger]:
    low, high = int(integers_N.min(initial=0)), int(integers_N.max(initial=0))
    return next(
        kind for kind in (np.int8, np.int16, np.int32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )


def _literal(number: np.floating) -> str:
    """Return a hexadecimal floating constant, the only kind that C99 promises to read exactly."""
    text = re.sub(r"\.?0*p", "p", float(number).hex())
    return text + "f" if number.dtype == np.float32 else text


def _integer(number: int) -> str:
    return "(-9223372036854775807 - 1)" if number == -(1 << 63) else str(int(number))


def _comment(text: str) -> str:
    """Return text that cannot end a comment, or begin another one or a trigraph."""
    return re.sub(r"[^ -~]|[?\\]|/(?=\*)|(?<=\*)/", "_", text)
