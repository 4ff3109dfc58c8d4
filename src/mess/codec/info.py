"""What a file holds, byte for byte, without decoding it."""

from __future__ import annotations

import hashlib
import math
import os

import numpy as np

from mess.codec.container import ENTRY, HEADER, checksums, format_of, read_file
from mess.codec.contents import Contents, Item
from mess.codec.dtypes import NAMED
from mess.codec.expansion import expansion_shares
from mess.codec.model import Layout
from mess.codec.model_file import (
    BATCH_NORMS,
    EXPANSIONS,
    INDICES,
    LARGEST_MODEL,
    OFFSETS,
    REFERENCES,
    SCALES,
    SECTION_NAMES,
    TENSORS,
    SectionReaders,
    check_size,
    open_model,
)
from mess.codec.reasons import Reasons
from mess.codec.rows import FileInfo, TensorInfo
from mess.codec.streams import ROUNDED, peek_form

ON_A_TRELLIS = "on a trellis"  # FORMAT.md 10.12
STORED_AS = {"P": "as it is", "M": "k, α, β", "C": "k", "E": "sum of references", "B": "batch norm", "T": "tied"}


def bits_of(integers_N: np.ndarray) -> int:
    """Return the bits that numbers were rounded to: the largest of them is 2^(b−1) − 1 (`choose_step`); 0 of zeros."""
    largest = max(int(integers_N.max(initial=0)), -int(integers_N.min(initial=0)))
    return largest.bit_length() + 1 if largest else 0


def inspect_file(
    path: str | os.PathLike[str] | bytes, *, layout: Layout | None = None, max_bytes: int = LARGEST_MODEL
) -> FileInfo:
    """Return what a file holds and what it costs.

    Args:
        path: a file, or its bytes.
        layout: gives names and shapes of networks that are named.
        max_bytes: as in `read_model`: rounded numbers are decoded one tensor after the other, to see to how many bits.

    Raises:
        FormatError: the file breaks FORMAT.md, or is larger than allowed.
    """
    content, where = (path, "the file") if isinstance(path, bytes) else (read_file(path), os.fspath(path))
    contents, sections, where = open_model(content, layout=layout, where=where)
    check_size(contents, max_bytes, where)
    readers = SectionReaders(sections, where)

    def passed(kind: int, count: int) -> tuple[int, str]:
        """Pass over a stream; return its bytes and how its numbers are kept."""
        reader = readers.of(kind)
        start, form = reader.at, peek_form(reader)
        numbers = readers.take(kind, count, skip=form != ROUNDED)
        if form == ROUNDED and numbers is not None and (bits := bits_of(numbers.values)):
            form = f"{ROUNDED} to {bits} bits"
        return reader.at - start, form

    own = sum(passed(REFERENCES, count)[0] for count in contents.own_numbers if count)
    expanded = [contents.expansion(item) for item in contents.items if item.kind == "E"]
    shares = iter(expansion_shares(readers.of(EXPANSIONS), sections[EXPANSIONS].coder, expanded) if expanded else [])
    reasons, tensors = Reasons(contents), []
    for item in contents.items:
        parts: dict[str, int] = {}
        forms: dict[str, str] = {}
        if item.kind == "E":
            parts[SECTION_NAMES[EXPANSIONS]], trellised = next(shares)
            if trellised:
                forms[SECTION_NAMES[EXPANSIONS]] = ON_A_TRELLIS
        for kind, count in streams_of(item, contents):
            size, forms[SECTION_NAMES[kind]] = passed(kind, count)
            parts[SECTION_NAMES[kind]] = parts.get(SECTION_NAMES[kind], 0) + size
        stored = "references" if contents.is_source(item.name) else STORED_AS[item.kind]
        count, float_bytes = _in_floats(item)
        reason = reasons.why_by_itself(item)
        tensors.append(TensorInfo(count, parts, item.name, stored, reason, item.shape, item.dtype, float_bytes, forms))
    readers.finish()
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
    return count, count * NAMED[item.dtype].bytes
