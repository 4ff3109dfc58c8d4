"""The same network as a `.mess` file that says everything itself and leaves its manifest uncompressed.

That is what small readers take (mess.h, in C and in browsers): they know neither the zoo nor zstd.
"""

from __future__ import annotations

import os
from pathlib import Path

from mess import codec
from mess.files import atomic_write
from mess.models.described import layout_of


def plain_bytes(stored: codec.StoredModel) -> bytes:
    """Return the bytes of a file that needs nothing but docs/FORMAT.md to be read."""
    return codec.encode_model(stored, plain=True)


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file again, for small readers; see `mess.export.export`."""
    content = plain_bytes(codec.read_model(path, layout=layout_of))
    atomic_write(output, content)
    return (f"for readers without zstd and the zoo, as mess.h; {_more(path, content)}",)


def _more(path: str | os.PathLike[str], content: bytes) -> str:
    before = Path(path).stat().st_size
    what = "the graph left out, names and shapes added" if len(content) < before else "all of it names and shapes"
    return f"{len(content) - before:+,} B against {before:,} B, {what}"
