"""What a file holds, byte for byte, without decoding it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from mess.codec.bits import Reader
from mess.codec.container import ENTRY, HEADER, MAJOR, MINOR, read_file
from mess.codec.expansion import expansion_shares
from mess.codec.model import Cut, Layout
from mess.codec.model_file import (
    BATCH_NORMS,
    EXPANSIONS,
    INDICES,
    OFFSETS,
    REFERENCES,
    SCALES,
    SECTION_NAMES,
    TENSORS,
    open_model,
)
from mess.codec.streams import Sharing, read_stream

STORED_AS = {"P": "as it is", "M": "k, α, β", "C": "k", "E": "sum of references", "B": "batch norm", "T": "tied"}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor, or one BatchNorm layer.

    Attributes:
        stored: how, in words.
        numbers: how many numbers it has (of a BatchNorm: those it computes with).
        parts: bytes by section.
    """

    name: str
    stored: str
    shape: tuple[int, ...]
    dtype: str
    numbers: int
    parts: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes of the file that are this tensor's."""
        return sum(self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits a number."""
        return 8 * self.bytes / self.numbers if self.numbers else 0.0


@dataclass(frozen=True)
class FileInfo:
    """A file. `sections` add up to `bytes`, and so do `header`, the manifest and all `tensors`.

    Attributes:
        format: major and minor version.
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
    tensors: list[TensorInfo] = field(repr=False)
    own_references: int = 0

    @property
    def numbers(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.numbers for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits a number, everything counted."""
        return 8 * self.bytes / max(1, self.numbers)


def inspect_file(path: str | os.PathLike[str], *, layout: Layout | None = None) -> FileInfo:
    """Return what a file holds and what it costs.

    Raises:
        FormatError: the file breaks FORMAT.md.
    """
    content = read_file(path)
    listing, sections, where = open_model(content, layout=layout)
    readers = {kind: Reader(section.content, f"{where}: {SECTION_NAMES[kind]}") for kind, section in sections.items()}
    sharing = {kind: Sharing() for kind in sections}

    def size(kind: int, count: int) -> int:
        start = readers[kind].at
        read_stream(readers[kind], count, sharing[kind], skip=True)
        return readers[kind].at - start

    own = sum(size(REFERENCES, count) for count in listing.own_numbers if count)
    expanded = [listing.expansion(item) for item in listing.items if item.kind == "E"]
    shares = iter(expansion_shares(readers[EXPANSIONS], expanded) if EXPANSIONS in readers else [])
    tensors = []
    for item in listing.items:
        numbers = 1
        for side in item.shape:
            numbers *= side
        parts: dict[int, int] = {}
        if item.kind == "P":
            kind = REFERENCES if listing.is_source(item.name) else TENSORS
            parts[kind] = size(kind, numbers)
        elif item.kind == "E":
            parts[EXPANSIONS] = next(shares)
        elif item.kind == "B":
            parts[BATCH_NORMS] = size(BATCH_NORMS, numbers) + size(BATCH_NORMS, numbers)
            numbers *= 2
        elif item.kind in "MC":
            book = listing.books[item.book]
            units = Cut.of(item.shape, book.unit, book.by_row).units
            for kind in (INDICES, SCALES, OFFSETS) if item.kind == "M" else (INDICES,):
                parts[kind] = size(kind, units)
        named = {SECTION_NAMES[kind]: count for kind, count in parts.items()}
        stored = "references" if listing.is_source(item.name) else STORED_AS[item.kind]
        tensors.append(TensorInfo(item.name, stored, item.shape, item.dtype, numbers if item.kind != "T" else 0, named))
    totals = {SECTION_NAMES[kind]: len(section.content) for kind, section in sections.items()}
    header = HEADER.size + ENTRY.size * (len(sections) + 1)
    manifest = len(content) - header - sum(totals.values())
    totals = {"header": header, "manifest": manifest, **totals}
    digest = hashlib.sha256(content).hexdigest()
    return FileInfo(len(content), (MAJOR, MINOR), digest, listing.network, listing.scheme, header, totals, tensors, own)
