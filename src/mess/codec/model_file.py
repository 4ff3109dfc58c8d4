"""A network to the bytes of a file and back (FORMAT.md, clause 5).

The manifest says what there is; the sections hold the streams, in the order of the manifest, one section a kind:
references, indices, scales, offsets, tensors, BatchNorm. What a stream counts follows from shapes, so a file cannot ask
for more memory than its shapes say, and these are added up first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mess.codec.bits import Reader
from mess.codec.container import Section, pack_sections, read_file, unpack_sections
from mess.codec.contents import Contents, Item, make_manifest, read_contents
from mess.codec.dtypes import NAMED
from mess.codec.expansion import CODERS, Integers, read_expansions, write_expansions
from mess.codec.frames import RAW, ZSTD, pack, unpack
from mess.codec.manifest import pack_manifest, unpack_manifest
from mess.codec.model import (
    BATCH_NORM_PARTS,
    BatchNorm,
    Entry,
    Expanded,
    Layout,
    Matched,
    Plain,
    StoredModel,
    Tied,
    joined,
)
from mess.codec.numbers import NumberArray
from mess.codec.streams import PreviousTable, read_stream, write_stream
from mess.errors import FormatError, WeightsError
from mess.files import atomic_write

MANIFEST, REFERENCES, INDICES, SCALES, OFFSETS, TENSORS, BATCH_NORMS, EXPANSIONS, GRAPH = range(1, 10)
SECTION_NAMES = {
    MANIFEST: "manifest", REFERENCES: "references", INDICES: "indices", SCALES: "scales", OFFSETS: "offsets",
    TENSORS: "tensors", BATCH_NORMS: "batch norms", EXPANSIONS: "expansions",
    GRAPH: "graph",
}  # fmt: skip
STREAMS, ANY_FLOATS = range(2)  # coders of a section that is streams; tensors may have NaN and infinity in them
KNOWN = {
    MANIFEST: (RAW, ZSTD),
    **dict.fromkeys(range(REFERENCES, EXPANSIONS), (STREAMS,)),
    TENSORS: (STREAMS, ANY_FLOATS),
    EXPANSIONS: CODERS,
    GRAPH: (RAW, ZSTD),
}
LARGEST_MODEL = 1 << 31  # bytes of decoded tensors, unless the caller allows more
OWN_MODEL = 1 << 45  # of a file that was written a moment ago
MAX_GRAPH_BYTES = 1 << 28  # bytes of an ONNX model without its tensors


def encode_model(stored: StoredModel, layout: Layout | None = None, *, plain: bool = False) -> bytes:
    """Return the bytes of a file. The same network and scheme give the same bytes, in whatever order entries come.

    Args:
        stored: what to write.
        layout: gives names, shapes and dtypes of networks that are named, which are then not in the file; where a
            tensor has another shape or dtype (half weights, say) they are in it all the same.
        plain: leave the manifest uncompressed and the graph out, for readers of tensors without zstd (mess.h).
    """
    named = layout(stored.network) if layout is not None and stored.network is not None else None
    if named is not None and not _is_of(stored, named):
        named = None
    manifest, order = make_manifest(stored, named)
    coder, text = pack_manifest(manifest, compressed=not plain)
    streams: dict[int, list[bytes]] = {}
    previous: dict[int, PreviousTable] = {}

    def add(section: int, numbers: NumberArray) -> None:
        streams.setdefault(section, []).append(write_stream(numbers, previous.setdefault(section, PreviousTable())))

    sources = {book.source for book in stored.books}
    for book in stored.books:
        if book.numbers is not None:
            add(REFERENCES, book.numbers)
    for name in order:
        entry = stored.entries[name]
        if isinstance(entry, Plain):
            add(REFERENCES if name in sources else TENSORS, entry.numbers)
        elif isinstance(entry, Matched):
            add(INDICES, NumberArray(entry.index_N, "int64"))
            for section, numbers in ((SCALES, entry.scale_N), (OFFSETS, entry.offset_N)):
                if numbers is not None:
                    add(section, numbers)
        elif isinstance(entry, BatchNorm):
            add(BATCH_NORMS, entry.scale)
            add(BATCH_NORMS, entry.shift)
    coders = {} if all(_is_finite(entry) for entry in stored.entries.values()) else {TENSORS: ANY_FLOATS}
    sections = [Section(kind, coders.get(kind, STREAMS), b"".join(parts)) for kind, parts in streams.items()]
    expanded = [entry for name in order if isinstance(entry := stored.entries[name], Expanded)]
    if expanded:
        layers = [Integers(entry.integers_RCK, entry.step, entry.exponents, entry.levels) for entry in expanded]
        sections.append(Section(EXPANSIONS, *write_expansions(layers)))
    if stored.graph is not None and not plain:
        if len(stored.graph) > MAX_GRAPH_BYTES:
            raise WeightsError("graph", f"at most {MAX_GRAPH_BYTES} bytes beside the tensors", len(stored.graph))
        sections.append(Section(GRAPH, *pack(stored.graph)))
    return pack_sections([Section(MANIFEST, coder, text), *sections])


def write_model(
    path: str | os.PathLike[str], stored: StoredModel, *, layout: Layout | None = None, overwrite: bool = True
) -> int:
    """Write a file in one step and return its size in bytes."""
    atomic_write(path, encode_model(stored, layout), overwrite=overwrite)
    return os.stat(path).st_size  # noqa: PTH116


class SectionReaders:
    """The sections of a file that have streams in them, each of which is read from front to back."""

    def __init__(self, sections: dict[int, Section], where: str) -> None:
        self._where, self._previous = where, {kind: PreviousTable() for kind in sections}
        self._any_floats = TENSORS in sections and sections[TENSORS].coder == ANY_FLOATS
        self._readers = {
            kind: Reader(section.content, f"{where}: {SECTION_NAMES[kind]}")
            for kind, section in sections.items()
            if kind != GRAPH
        }

    def of(self, kind: int) -> Reader:
        """Return the reader of a section; raises FormatError where there is none."""
        if kind not in self._readers:
            raise FormatError(self._where, f"a section of {SECTION_NAMES[kind]}", "none")
        return self._readers[kind]

    def take(self, kind: int, count: int, skip: bool = False) -> Any:
        """Return the next stream of a section; see `read_stream`."""
        finite = kind != TENSORS or not self._any_floats
        return read_stream(self.of(kind), count, self._previous[kind], skip=skip, finite=finite)

    def finish(self) -> None:
        """Refuse bytes that nothing has asked for."""
        for reader in self._readers.values():
            reader.finish()


def read_model(
    path: str | os.PathLike[str] | bytes,
    *,
    layout: Layout | None = None,
    max_bytes: int = LARGEST_MODEL,
    names: Iterable[str] | None = None,
) -> StoredModel:
    """Read a file, or its bytes.

    Args:
        layout: gives names and shapes of networks that are named.
        max_bytes: the most that decoded tensors may take, ties and what they are computed from counted, added up from
            shapes before anything is decoded. Decoding takes up to ten times that at its peak, mostly two to four.
        names: only these tensors (and what they need) are decoded; None: all.

    Raises:
        FormatError: the file breaks FORMAT.md, or is larger than allowed.
    """
    contents, sections, where = open_model(path, layout=layout)
    check_size(contents, max_bytes, where)
    graph = sections.pop(GRAPH, None)
    wanted = contents.needed(names) if names is not None else None
    readers = SectionReaders(sections, where)
    books = [
        book if book.source is not None else replace(book, numbers=readers.take(REFERENCES, count))
        for book, count in zip(contents.books, contents.own_numbers, strict=True)
    ]
    entries: dict[str, Entry] = {}
    expansions = _read_expansions(contents, readers, sections, wanted)
    for item in contents.items:
        skip = wanted is not None and item.name not in wanted
        entry = expansions.get(item.name) if item.kind == "E" else _read_entry(item, contents, readers.take, skip)
        if entry is not None:
            entries[item.name] = entry
    readers.finish()
    return StoredModel(contents.network, contents.scheme, books, entries, unpacked_graph(graph, where))


def open_model(
    path: str | os.PathLike[str] | bytes, *, layout: Layout | None, where: str = "the file"
) -> tuple[Contents, dict[int, Section], str]:
    """Check the container, read the manifest and return what there is, the sections with streams, and the name."""
    where = where if isinstance(path, bytes) else os.fspath(path)
    content = path if isinstance(path, bytes) else read_file(path)
    sections = unpack_sections(content, where, KNOWN)
    if MANIFEST not in sections:
        raise FormatError(where, "a manifest", "none")
    head = sections.pop(MANIFEST)
    return read_contents(unpack_manifest(head.coder, head.content, where), layout, where), sections, where


def check_size(contents: Contents, max_bytes: int, where: str) -> None:
    """Refuse a file whose tensors take more memory than the caller allows (FORMAT.md 11.8)."""
    if contents.decoded_bytes > max_bytes:
        raise FormatError(
            where,
            f"at most {max_bytes:,} bytes of tensors",
            f"{contents.decoded_bytes:,}",
            "max_bytes (--max-bytes) allows more",
        )


def unpacked_graph(section: Section | None, where: str) -> bytes | None:
    """Return what the section of a graph holds, None where there is none."""
    return None if section is None else unpack(section.coder, section.content, MAX_GRAPH_BYTES, "graph", where)


def _read_entry(item: Item, contents: Contents, take: Any, skip: bool) -> Entry | None:
    count = math.prod(item.shape)
    if item.kind == "T":
        return None if skip else Tied(item.to)
    if item.kind == "P":
        numbers = take(REFERENCES if contents.is_source(item.name) else TENSORS, count, skip)
        if not skip and not NAMED[item.dtype].is_float and (numbers.step is not None or numbers.dtype != item.dtype):
            raise FormatError(item.name, f"numbers that are {item.dtype}", f"others, {numbers.dtype}")
        if not skip and numbers.dtype != item.dtype and not numbers.is_finite():
            raise FormatError(item.name, f"finite numbers, to be made {item.dtype}", "NaN or infinity")
        return None if skip else Plain(item.shape, item.dtype, numbers)
    if item.kind == "B":
        scale, shift = (take(BATCH_NORMS, item.shape[0], skip) for _ in range(2))
        return None if skip else BatchNorm(scale, shift, item.eps, item.tracked)
    units, references = contents.units(item), contents.references(item.book)
    index = take(INDICES, units, skip)
    scale, offset = (take(s, units, skip) if item.kind == "M" else None for s in (SCALES, OFFSETS))
    if skip:
        return None
    if index.step is not None or NAMED[index.dtype].is_float:
        raise FormatError(item.name, "indices that are integers", "numbers with a step, or floats")
    for wrong in (int(index.values.min()), int(index.values.max())) if units else ():
        if not 0 <= wrong < references:
            raise FormatError(item.name, f"indices below {references}", wrong)
    return Matched(item.shape, item.dtype, item.book, index.values, scale, offset)


def _is_finite(entry: Entry) -> bool:
    return not isinstance(entry, Plain) or entry.numbers.is_finite()


def _read_expansions(
    contents: Contents, readers: SectionReaders, sections: dict[int, Section], wanted: set[str] | None
) -> dict[str, Expanded]:
    """Decode the tensors that are sums of references and wanted."""
    items = [item for item in contents.items if item.kind == "E"]
    if not items:
        return {}
    reader, sizes = readers.of(EXPANSIONS), [contents.expansion(item) for item in items]
    places = [n for n, item in enumerate(items) if wanted is None or item.name in wanted]
    return {
        items[n].name: Expanded(
            items[n].shape,
            items[n].dtype,
            items[n].book,
            layer.values_RCT,
            layer.step,
            layer.exponents,
            layer.levels,
        )
        for n, layer in read_expansions(reader, sections[EXPANSIONS].coder, sizes, places).items()
    }


def _is_of(stored: StoredModel, named: list[tuple[str, tuple[int, ...], str]]) -> bool:
    """Return whether tensors have the shapes and dtypes of the network that is named."""
    known = {name: (shape, dtype) for name, shape, dtype in named}
    for name, entry in stored.entries.items():
        if isinstance(entry, Plain | Matched | Expanded) and known.get(name) != (tuple(entry.shape), entry.dtype):
            return False
        floats = [joined(name, part) for part in BATCH_NORM_PARTS[:4]] if isinstance(entry, BatchNorm) else []
        if any(known.get(part, ((), "float32"))[1] != "float32" for part in floats):
            return False
    return True
