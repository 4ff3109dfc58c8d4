"""The container: sections of bytes, found and checked before anything in them is looked at (FORMAT.md, 2 to 4)."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from dataclasses import dataclass

from mess.errors import FormatError

MAGIC = b"\x89MESS\r\n\x1a"
MAJOR = 1
# (type, coder) of a section → the minor version that brought it; all others: 0
MINOR = {(6, 1): 3, (8, 2): 1, (8, 3): 2, (9, 0): 1, (9, 1): 1}
HEADER = struct.Struct("<8sBBHHQ32s")  # magic, major, minor, flags, sections, length, SHA-256
ENTRY = struct.Struct("<BBHIQQ")  # type, coder, reserved, CRC-32, offset, length
DIGEST = slice(HEADER.size - 32, HEADER.size)
MAX_FILE_BYTES = 1 << 40
MAX_SECTIONS = 64
FOREIGN = {b"PK\x03\x04": "a zip archive (as torch.save writes)", b"\x80\x02": "a pickle", b"\x80\x04": "a pickle",
           b"\x80\x05": "a pickle", b"\x1f\x8b": "a gzip archive",
           b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches the file itself)",
           b"<!DOCTYPE": "a web page", b"<!doctype": "a web page", b"<html": "a web page"}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One section: what it is, how its content is coded, and the content."""

    type: int
    coder: int
    content: bytes


def pack_sections(sections: list[Section]) -> bytes:
    """Return the whole file. Sections stand in the order of their types, without gaps."""
    sections = sorted(sections, key=lambda s: s.type)
    offset = HEADER.size + ENTRY.size * len(sections)
    table, body = b"", b""
    for section in sections:
        crc = zlib.crc32(section.content)
        table += ENTRY.pack(section.type, section.coder, 0, crc, offset + len(body), len(section.content))
        body += section.content
    length = offset + len(body)
    minor = max((MINOR.get((section.type, section.coder), 0) for section in sections), default=0)
    header = HEADER.pack(MAGIC, MAJOR, minor, 0, len(sections), length, bytes(32))
    digest = hashlib.sha256(header + table + body).digest()
    return header[: DIGEST.start] + digest + table + body


def format_of(content: bytes) -> tuple[int, int]:
    """Return the major and the minor version that a file says."""
    _, major, minor, *_ = HEADER.unpack_from(content)
    return major, minor


def unpack_sections(content: bytes, where: str, known: dict[int, tuple[int, ...]]) -> dict[int, Section]:
    """Check everything about a file that can be checked without reading sections, and return them by type.

    Args:
        content: the whole file.
        where: its name, for errors.
        known: types of sections, and the coders each may have.

    Raises:
        FormatError: names the first thing that is wrong, in the order of FORMAT.md, clause 11.
    """
    if len(content) < HEADER.size or content[: len(MAGIC)] != MAGIC:
        raise FormatError(where, "a .mess file", _what_it_is(content))
    _, major, minor, flags, count, length, digest = HEADER.unpack_from(content)
    if major != MAJOR:
        raise FormatError(
            where, f"format version {MAJOR}", f"{major}.{minor}", "A newer MESS may read it" if major > MAJOR else ""
        )
    if flags:
        raise FormatError(where, "no flags that this version does not know", f"{flags:#06x}")
    if length != len(content):
        raise FormatError(
            where, f"{length} bytes, as its header says", f"{len(content)}", "The file is cut short or has grown"
        )
    blank = content[: DIGEST.start] + bytes(32)
    hasher = hashlib.sha256(blank)
    hasher.update(memoryview(content)[DIGEST.stop :])
    if hasher.digest() != digest:
        raise FormatError(where, "the content its SHA-256 was taken of", "another content: the file is damaged")
    if not 1 <= count <= MAX_SECTIONS or HEADER.size + ENTRY.size * count > length:
        raise FormatError(where, f"1 to {MAX_SECTIONS} sections, with their table", count)
    expected = HEADER.size + ENTRY.size * count
    found: dict[int, Section] = {}
    last = -1
    for number in range(count):
        kind, coder, reserved, crc, offset, size = ENTRY.unpack_from(content, HEADER.size + ENTRY.size * number)
        if kind not in known or coder not in known[kind] or reserved:
            raise FormatError(f"{where}: section {number}", "a known type and coder", f"{kind}, {coder}, {reserved}")
        if kind <= last:
            raise FormatError(f"{where}: section {number}", "types that rise", f"{kind} after {last}")
        if offset != expected or size > length - offset:
            raise FormatError(
                f"{where}: section {number}", f"to start at {expected}, within the file", f"{offset} + {size}"
            )
        section = content[offset : offset + size]
        if zlib.crc32(section) != crc:
            raise FormatError(f"{where}: section {number}", "the content its CRC-32 was taken of", "another")
        found[kind], last, expected = Section(kind, coder, section), kind, offset + size
    if expected != length:
        raise FormatError(where, "sections that fill the file", f"{length - expected} bytes left over")
    return found


def checksums(content: bytes) -> dict[int, int]:
    """Return the CRC-32 of each section, by type, of a file that `unpack_sections` has found whole."""
    count = HEADER.unpack_from(content)[4]
    entries = (ENTRY.unpack_from(content, HEADER.size + ENTRY.size * number) for number in range(count))
    return {kind: crc for kind, _, _, crc, _, _ in entries}


def read_file(path: str | os.PathLike[str], largest: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file, also behind links; never waits on a pipe.

    Raises:
        FormatError: a directory, pipe or device, or a file that is too large.
        OSError: it is not there or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            found = "a directory" if stat.S_ISDIR(status.st_mode) else "something else"
            raise FormatError(path, "a regular file", found)
        if status.st_size > largest:
            raise FormatError(path, f"at most {largest} bytes", status.st_size)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _what_it_is(content: bytes) -> str:
    if not content:
        return "an empty file"
    for start, name in FOREIGN.items():
        if content.startswith(start):
            return name
    if content[8:9] == b"{":
        return "a .safetensors file"
    return f"a file of {len(content)} bytes that starts with {content[:4].hex(' ')}"
