"""Let coverage find files that the reader takes amiss: each gives a model or a FormatError, soon, in little memory.

atheris (https://github.com/google/atheris) changes the golden files and keeps what reaches new code; checksums are made
right before the reader sees a file. It needs an environment of its own, in which torch need not be:

    python -m venv .venv-atheris && .venv-atheris/bin/pip install atheris numpy constriction zstandard
    python benchmarks/fuzz.py coverage --seconds 300
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mess"]):
    from damage import sealed
    from mess import codec
    from mess.errors import FormatError

MAX_BYTES = 1 << 26


def read(content: bytes) -> None:
    """Read one file; anything raised but FormatError is a finding."""
    if len(content) < codec.container.HEADER.size:
        return
    with suppress(FormatError):
        codec.reconstruct(codec.read_model(sealed(content), max_bytes=MAX_BYTES))


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    for golden in (Path(__file__).parent / "golden").glob("*.mess"):
        shutil.copy(golden, corpus)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
