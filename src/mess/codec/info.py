"""What a file holds, byte for byte, without decoding it."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mess import notebook
from mess.codec.bits import Reader
from mess.codec.container import ENTRY, HEADER, checksums, format_of, read_file
from mess.codec.contents import BYTES, Contents, Item
from mess.codec.expansion import ONE_STEP, expansion_shares
from mess.codec.model import Layout
from mess.codec.model_file import (
    BATCH_NORMS,
    EXPANSIONS,
    GRAPH,
    INDICES,
    OFFSETS,
    REFERENCES,
    SCALES,
    SECTION_NAMES,
    TENSORS,
    open_model,
)
from mess.codec.reasons import why_by_itself
from mess.codec.streams import ROUNDED, PreviousTable, peek_form, read_stream
from mess.errors import FormatError

STORED_AS = {"P": "as it is", "M": "k, α, β", "C": "k", "E": "sum of references", "B": "batch norm", "T": "tied"}


def bits_per_weight(count: int, numbers: int) -> float:
    """Return bits a number that `count` bytes are, 0 where there is no number."""
    return 8 * count / numbers if numbers else 0.0


@dataclass(frozen=True)
class Share:
    """A part of a file.

    Attributes:
        numbers: how many numbers it has (of a BatchNorm: those it computes with; of a tied tensor none).
        parts: its bytes by section.
    """

    numbers: int
    parts: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes of the file that are its own."""
        return sum(self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits a number, 0 where there is none."""
        return bits_per_weight(self.bytes, self.numbers)


@dataclass(frozen=True)
class TensorInfo(Share):
    """One tensor, or one BatchNorm layer, in a file.

    Attributes:
        name: in the state dict; of a BatchNorm layer the module's.
        stored: how, in words.
        reason: why no reference stands for it; "" where one does.
        shape: of the tensor; of a BatchNorm layer (channels,).
        dtype: as ``"float32"``.
        float_bytes: bytes of the tensors it gives, in their own dtypes; of a tied tensor none.
        forms: how the numbers of each section are kept: "rounded to 8 bits" (multiples of one step), or a dtype.
    """

    name: str
    stored: str
    reason: str
    shape: tuple[int, ...]
    dtype: str
    float_bytes: int
    forms: dict[str, str]


@dataclass(frozen=True)
class FileInfo:
    """What a file holds. `sections` add up to `bytes`, and so do `header`, the manifest and all `tensors`.

    Attributes:
        bytes: size of the file.
        format: major and minor version.
        network: which network of the zoo it is, mean and std of its input; None: the file does not say.
        scheme: version, options, and what was seen before it was written.
        sections: bytes by section.
        tensors: what it holds, in the order of the file.
        sha256: of the file, which is what its header says.
        crc32: of each section, as its entry says.
        header: bytes of header and section table.
        own_references: bytes of references that are no tensor's.
    """

    bytes: int
    format: tuple[int, int]
    sha256: str
    network: dict[str, Any] | None
    scheme: dict[str, Any]
    header: int
    sections: dict[str, int]
    crc32: dict[str, int]
    tensors: list[TensorInfo] = field(repr=False)
    own_references: int = 0

    @property
    def numbers(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.numbers for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits a number, everything counted."""
        return bits_per_weight(self.bytes, self.numbers)

    @property
    def float_bytes(self) -> int:
        """Bytes of all tensors in their own dtypes, tied ones once, without any container."""
        return sum(tensor.float_bytes for tensor in self.tensors)

    @property
    def ratio(self) -> float:
        """How many times smaller than that the file is."""
        return self.float_bytes / self.bytes

    def __str__(self) -> str:
        widest = max(map(len, self.sections))
        shares = [(name, count, count / self.bytes) for name, count in self.sections.items()]
        lines = [f"  {name:{widest}} {count:>12,} B {share:>6.1%}" for name, count, share in shares]
        return "\n".join([*self._told(), *lines])

    def _repr_html_(self) -> str:
        from mess.codec.rows import NAME_OF_SECTION, NOTEBOOK_ROWS, rows_of

        counts, rows = self.sections.values(), rows_of(self, NOTEBOOK_ROWS)
        sections = [(NAME_OF_SECTION[name], f"{n:,}", f"{n / self.bytes:.1%}") for name, n in self.sections.items()]
        layers = [(r.name, f"{r.bytes:,}", f"{r.bits_per_weight:.2f}" if r.numbers else "") for r in rows]
        bars = [n / max(counts) for n in counts], [r.bytes / max(row.bytes for row in rows) for r in rows]
        by_section = notebook.table(("section", "bytes", "share"), sections, bars[0])
        by_layer = notebook.table(("layer", "bytes", "bits a weight"), layers, bars[1])
        title, *lines = self._told()
        return notebook.block(title, lines, [by_section, by_layer])

    def _told(self) -> list[str]:
        from mess.codec.rows import network_name, scheme_name, seen_of

        size = f"{self.bytes:,} B, {self.ratio:.1f} times smaller than {self.float_bytes:,} B of weights"
        seen = seen_of(self.scheme)
        return [
            f"{network_name(self)}, scheme {scheme_name(self.scheme)}",
            f"{size}, {self.bits_per_weight:.2f} bits a weight; format {self.format[0]}.{self.format[1]}",
            *([seen] if seen else []),
        ]


def bits_of(integers_N: np.ndarray) -> int:
    """Return the bits that numbers were rounded to: the largest of them is 2^(b−1) − 1 (`choose_step`); 0 of zeros."""
    largest = int(np.abs(integers_N).max(initial=0))
    return largest.bit_length() + 1 if largest else 0


def inspect_file(path: str | os.PathLike[str] | bytes, *, layout: Layout | None = None) -> FileInfo:
    """Return what a file holds and what it costs.

    Raises:
        FormatError: the file breaks FORMAT.md.
    """
    content, where = (path, "the file") if isinstance(path, bytes) else (read_file(path), os.fspath(path))
    contents, sections, where = open_model(content, layout=layout, where=where)
    streams = {kind: section for kind, section in sections.items() if kind != GRAPH}
    readers = {kind: Reader(section.content, f"{where}: {SECTION_NAMES[kind]}") for kind, section in streams.items()}
    previous = {kind: PreviousTable() for kind in sections}

    def passed(kind: int, count: int) -> tuple[int, str]:
        """Pass over a stream; return its bytes and how its numbers are kept."""
        if kind not in readers:
            raise FormatError(where, f"a section of {SECTION_NAMES[kind]}", "none")
        start, form = readers[kind].at, peek_form(readers[kind])
        numbers = read_stream(readers[kind], count, previous[kind], skip=form != ROUNDED)
        if form == ROUNDED and numbers is not None and (bits := bits_of(numbers.values)):
            form = f"{ROUNDED} to {bits} bits"
        return readers[kind].at - start, form

    own = sum(passed(REFERENCES, count)[0] for count in contents.own_numbers if count)
    expanded = [contents.expansion(item) for item in contents.items if item.kind == "E"]
    if expanded and EXPANSIONS not in readers:
        raise FormatError(where, f"a section of {SECTION_NAMES[EXPANSIONS]}", "none")
    coder = sections[EXPANSIONS].coder if expanded else ONE_STEP
    shares = iter(expansion_shares(readers[EXPANSIONS], coder, expanded) if expanded else [])
    tensors = []
    for item in contents.items:
        parts: dict[str, int] = {}
        forms: dict[str, str] = {}
        if item.kind == "E":
            parts[SECTION_NAMES[EXPANSIONS]] = next(shares)
        for kind, count in streams_of(item, contents):
            size, forms[SECTION_NAMES[kind]] = passed(kind, count)
            parts[SECTION_NAMES[kind]] = parts.get(SECTION_NAMES[kind], 0) + size
        stored = "references" if contents.is_source(item.name) else STORED_AS[item.kind]
        count, float_bytes = _in_floats(item)
        reason = why_by_itself(item, contents)
        tensors.append(TensorInfo(count, parts, item.name, stored, reason, item.shape, item.dtype, float_bytes, forms))
    for reader in readers.values():
        reader.finish()
    totals = {SECTION_NAMES[kind]: len(section.content) for kind, section in sections.items()}
    header = HEADER.size + ENTRY.size * (len(sections) + 1)
    manifest = len(content) - header - sum(totals.values())
    totals = {"header": header, "manifest": manifest, **totals}
    return FileInfo(
        bytes=len(content),
        format=format_of(content),
        sha256=hashlib.sha256(content).hexdigest(),
        network=contents.network,
        scheme=contents.scheme,
        header=header,
        sections=totals,
        crc32={SECTION_NAMES[kind]: crc for kind, crc in checksums(content).items()},
        tensors=tensors,
        own_references=own,
    )


def streams_of(item: Item, contents: Contents) -> list[tuple[int, int]]:
    """Return (section, numbers) of each stream of a tensor, in their order (FORMAT.md 5.6)."""
    if item.kind == "P":
        return [(REFERENCES if contents.is_source(item.name) else TENSORS, math.prod(item.shape))]
    if item.kind == "B":
        return [(BATCH_NORMS, item.shape[0])] * 2
    if item.kind in "MC":
        kinds = (INDICES, SCALES, OFFSETS) if item.kind == "M" else (INDICES,)
        return [(kind, contents.units(item)) for kind in kinds]
    return []


def _in_floats(item: Item) -> tuple[int, int]:
    """Return how many numbers there are, and how many bytes its tensors take in their own dtypes."""
    if item.kind == "T":
        return 0, 0
    count = math.prod(item.shape)
    if item.kind == "B":  # weight, bias, mean, variance, and an int64 that counts batches
        return 2 * count, 4 * 4 * count + 8 * item.tracked
    return count, count * BYTES.get(item.dtype, 1)
