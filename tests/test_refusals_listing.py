"""What a reader refuses before it decodes anything (FORMAT.md 11.6, 11.7), and sections that are not there or unfit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mess
from format_helpers import example, example_v4
from mess import codec
from mess.codec.bits import varint
from mess.codec.container import DIGEST, ENTRY, HEADER, Section, pack_sections, read_file
from mess.codec.contents import layout_crc
from mess.codec.manifest import MAX_BYTES, RAW, pack_manifest, unpack_manifest
from mess.codec.model_file import INDICES, MANIFEST, STREAMS, TENSORS
from mess.codec.streams import CONSTANT, STEPPED
from mess.errors import FormatError

EMPTY = Section(MANIFEST, RAW, b'{"books":[],"scheme":{},"tensors":[]}')
OWN = [-1, 9, 9, 0, 9]  # a codebook with one reference of its own
CONTAINERS = {
    "a section of an unknown type": ([EMPTY, Section(99, STREAMS, b"")], "section 1.*known type and coder, found 99"),
    "an unknown coder": ([Section(MANIFEST, 7, EMPTY.content)], "section 0.*known type and coder, found 1, 7"),
    "a section twice": ([EMPTY, EMPTY], "section 1.*types that rise, found 1 after 1"),
    "no manifest": ([Section(TENSORS, STREAMS, b"")], "a manifest, found none"),
}
LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "a scheme that is a list": ({"scheme": []}, "a scheme and, maybe, a network"),
    "a network that is a name": ({"network": "resnet"}, "a scheme and, maybe, a network"),
    "tensors in an object": ({"tensors": {}}, "a list of at most"),
    "a tensor without a dtype": ({"tensors": [["a", "P"]]}, r"tensors as \[name, kind, shape, dtype\]"),
    "a tensor without a name": ({"tensors": [[1, "P", [], 0]]}, r"tensors as \[name, kind, shape, dtype\]"),
    "a tie to a number": ({"tensors": [["a", "T", 5]]}, r"the name of another tensor, found \[5\]"),
    "codebooks in an object": ({"books": {}}, "a list of codebooks"),
    "a codebook of four numbers": ({"books": [[-1, 9, 9, 0]]}, "codebooks as .*found"),
    "a reference cut short": ({"books": [[-1, 9, 9, 0, 10]]}, "whole references of 9 numbers, found 10"),
    "BatchNorm without eps": ({"tensors": [["a", "B0", [3], 0]]}, "an eps of the list, found B0"),
    "integers by reference": ({"tensors": [["a", "C0", [9], 4]], "books": [OWN]}, "floats, and .*found int64"),
    "half a unit a row": ({"tensors": [["a", "E0", [2, 5], 0]], "books": [OWN]}, "rows of whole units of 9"),
}  # fmt: skip
LAYOUT = [("a", (2,), "float32"), ("n.weight", (2,), "float32"), ("n.bias", (2,), "float32")]
LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "a kind too few": ({"kinds": ["P", "P"]}, "3 kinds, found"),
    "a kind that is a number": ({"kinds": ["P", "P", 1]}, "3 kinds, found"),
    "a tie to nowhere": ({"ties": [[0, 3]]}, r"ties as pairs of places, found \[\[0, 3\]\]"),
    "a part of nothing": ({"kinds": ["-", "P", "P"]}, "part of the BatchNorm before it"),
    "a tie without an end": ({"kinds": ["T", "P", "P"]}, "what it is tied to, found nothing"),
    "half a BatchNorm": ({"kinds": ["P", "B0", "-"], "eps": [1e-5]}, "every tensor of the layout once"),
    "another layout": ({"layout": 1}, "the layout of .* with CRC"),
}


def file_of(manifest: dict[str, Any], *sections: Section) -> bytes:
    """Return a file that says this."""
    coder, text = pack_manifest(manifest)
    return pack_sections([Section(MANIFEST, coder, text), *sections])


@pytest.mark.parametrize("name", CONTAINERS)
def test_sections_that_do_not_belong_are_refused(name: str) -> None:
    sections, said = CONTAINERS[name]
    assert codec.read_model(pack_sections([EMPTY])).entries == {}
    with pytest.raises(FormatError, match=said):
        codec.read_model(pack_sections(sections))


def test_a_wrong_crc_is_refused_where_the_whole_has_the_right_hash() -> None:
    body = bytearray(pack_sections([EMPTY]))
    kind, coder, reserved, crc, offset, size = ENTRY.unpack_from(body, HEADER.size)
    ENTRY.pack_into(body, HEADER.size, kind, coder, reserved, crc ^ 1, offset, size)
    body[DIGEST] = bytes(32)
    body[DIGEST] = hashlib.sha256(body).digest()
    with pytest.raises(FormatError, match="section 0: expected the content its CRC-32 was taken of"):
        codec.read_model(bytes(body))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "net.mess").write_bytes(bytes(11))
    with pytest.raises(FormatError, match="at most 10 bytes, found 11"):
        read_file(tmp_path / "net.mess", largest=10)


def test_a_manifest_that_is_too_large_is_refused() -> None:
    with pytest.raises(FormatError, match=f"at most {MAX_BYTES} bytes, found {MAX_BYTES + 1}"):
        unpack_manifest(RAW, bytes(MAX_BYTES + 1), "here")


@pytest.mark.parametrize("name", LISTS)
def test_a_list_without_sense_is_refused(name: str) -> None:
    changed, said = LISTS[name]
    with pytest.raises(FormatError, match=said):
        codec.read_model(file_of({"scheme": {}, "books": [], "tensors": [], **changed}))


@pytest.mark.parametrize("name", LAYOUTS)
def test_kinds_that_do_not_fit_the_layout_are_refused(name: str) -> None:
    changed, said = LAYOUTS[name]
    manifest = {"scheme": {}, "books": [], "network": {}, "layout": layout_crc(LAYOUT), "kinds": ["P", "P", "P"]}
    with pytest.raises(FormatError, match=said):
        codec.read_model(file_of(manifest | changed), layout=lambda _: LAYOUT)


@pytest.mark.parametrize("kind", ["P", "E0"])
def test_a_section_that_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    section = "tensors" if kind == "P" else "expansions"
    references = Section(2, STREAMS, bytes([STEPPED]) + np.float32(1).tobytes() + bytes([CONSTANT]) + varint(2))
    books = [OWN] if kind == "E0" else []
    content = file_of({"scheme": {}, "books": books, "tensors": [["a", kind, [1, 9], 0]]}, *[references][: len(books)])
    (tmp_path / "net.mess").write_bytes(content)
    for read in (codec.read_model, mess.inspect):
        with pytest.raises(FormatError, match=f"a section of {section}, found none"):
            read(tmp_path / "net.mess")


def test_indices_that_are_rounded_are_refused() -> None:
    rounded = bytes([STEPPED]) + np.float32(1).tobytes() + bytes([CONSTANT]) + varint(0)
    manifest = {"scheme": {}, "books": [OWN], "tensors": [["a", "C0", [9], 0]]}
    with pytest.raises(FormatError, match="indices that are integers, found numbers with a step"):
        codec.read_model(file_of(manifest, Section(2, STREAMS, rounded), Section(INDICES, STREAMS, rounded)))


def test_numbers_that_overflow_when_they_are_put_together_are_refused() -> None:
    stored = example("v2", bits=32)
    entry = stored.entries["c.weight"]
    large = replace(entry.scale_N, values=np.full_like(entry.scale_N.values, 3e38))
    matched = replace(stored, entries={**stored.entries, "c.weight": replace(entry, scale_N=large, offset_N=large)})
    stored = example_v4()
    entry = stored.entries["a.weight"]
    summed = replace(stored, entries={**stored.entries, "a.weight": replace(entry, step=3e38)})
    for wrong, name in ((matched, "c.weight"), (summed, "a.weight")):
        with pytest.raises(FormatError, match=f"{name}: expected finite numbers, found NaN or infinity"):
            codec.reconstruct(codec.read_model(codec.encode_model(wrong)))
