"""Content in one zstd frame that says its size, bounded before anything is unpacked."""

from __future__ import annotations

import zstandard

from mess.errors import FormatError

RAW, ZSTD = 0, 1  # coders of a section that is either the content or a frame of it
LEVEL = 19


def pack(content: bytes) -> tuple[int, bytes]:
    """Return (coder, content): in a frame, unless that is no smaller."""
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True).compress(content)
    return (ZSTD, packed) if len(packed) < len(content) else (RAW, content)


def unpack(coder: int, content: bytes, largest: int, what: str, where: str) -> bytes:
    """Undo `pack`.

    Args:
        largest: bytes that may come out.
        what: they are, for errors.

    Raises:
        FormatError: too large, no frame, more than one, or one that does not say its size.
    """
    if coder == ZSTD:
        content = _decompressed(content, largest, what, where)
    if len(content) > largest:
        raise FormatError(where, f"a {what} of at most {largest} bytes", len(content))
    return content


def _decompressed(content: bytes, largest: int, what: str, where: str) -> bytes:
    try:
        size = zstandard.frame_content_size(content)
        if not 0 <= size <= largest:
            raise FormatError(where, f"a {what} that says its size, at most {largest} bytes", size)
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        text = decompressor.decompress(content, max_output_size=largest, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(where, f"a {what} compressed with zstd", f"{error}") from error
    if len(text) != size:
        raise FormatError(where, f"{size} bytes of {what}", len(text))
    return text
