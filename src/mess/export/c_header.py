"""A network as one C99 header for microcontrollers: constants, and a decoder without libraries or memory of its own."""

from __future__ import annotations

import os
from pathlib import Path

from mess import codec
from mess.export.about import facts_of
from mess.export.c_source import Source, make_source
from mess.files import atomic_write
from mess.models.described import layout_of

USAGE = """
Include this in one C file. A kernel alone, or a tensor whole, in the numbers of the file:
  float kernel[9]; mess_unit(&NAME, 7, kernel);
  static float all[SIZE]; mess_decode(&NAME, all);
Every operation rounds to float32: with -std=c99, or -ffp-contract=off, GCC gives the very bits MESS gives."""


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file as a header whose identifiers begin with the header's name; see `mess.export.export`."""
    stored = codec.read_model(path, layout=layout_of)
    facts = facts_of(stored.network, stored.scheme)
    about = [f"{name}: {_plain(value)}" for name, value in facts.items()]
    source = make_source(stored, output.stem, about + USAGE.splitlines())
    atomic_write(output, ("\n".join(source.lines) + "\n").encode("ascii"))
    return _told(source)


def _told(source: Source) -> tuple[str, ...]:
    constant, as_float = source.array_bytes + source.record_bytes, source.float_bytes
    notes = [f"{constant:,} B of constants in a program; as plain arrays {as_float:,} B ({as_float / constant:.1f}x)"]
    if source.decoded:
        some = ", ".join(source.decoded[:3]) + (" ..." if len(source.decoded) > 3 else "")
        notes.append(f"{len(source.decoded)} tensors that are not float32 are written decoded: {some}")
    return tuple(notes)


def _plain(value: object) -> str:
    return " ".join(f"{x:g}" for x in value) if isinstance(value, list) else str(value)
