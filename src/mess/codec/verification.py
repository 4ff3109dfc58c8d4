"""A file is read back in a fresh process, and every tensor compared, before it takes its name."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mess import codec
from mess.codec.model_file import OWN_MODEL
from mess.errors import FormatError
from mess.files import atomic_writer

# without the folder that it runs in, where somebody's json.py may lie
READER = "import sys; sys.path[:] = filter(None, sys.path); from mess.codec.verification import main; main()"


def write_verified(
    path: Path,
    stored: codec.StoredModel,
    tensors: Mapping[str, codec.Tensor],
    *,
    layout: codec.Layout | None = None,
    overwrite: bool = True,
) -> None:
    """Write a file as `codec.write_model` does, but only once a fresh process has read `tensors` from it.

    Raises:
        FormatError: what was read back differs; what was at `path` is untouched.
    """
    content = codec.encode_model(stored, layout)
    named = layout(stored.network) if layout is not None and stored.network is not None else None
    expected = tensor_hashes(tensors)
    with atomic_writer(path, overwrite=overwrite) as file:
        file.write(content)
        file.flush()
        found = _read_back(file.name, named)
        if found != expected:
            wrong = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
            raise FormatError(path, "the tensors that were written", f"others when read back: {', '.join(wrong[:3])}")


def tensor_hashes(tensors: Mapping[str, codec.Tensor]) -> dict[str, str]:
    """Return the SHA-256 of each tensor's dtype, shape and bytes."""
    return {
        name: hashlib.sha256(f"{dtype}{list(array.shape)}".encode() + array.tobytes()).hexdigest()
        for name, (array, dtype) in tensors.items()
    }


def _read_back(path: str, named: list[tuple[str, tuple[int, ...], str]] | None) -> dict[str, str]:
    """Hash a file's tensors in a process that shares nothing with this one but the file (and needs no torch).

    Where no process can be started (an interpreter inside another program, a sandbox) this one reads the file.
    """
    process = None
    if sys.executable:
        with suppress(OSError):
            process = subprocess.run(  # noqa: S603 - this very interpreter, on a file of ours
                [sys.executable, "-c", READER, path],
                input=json.dumps(named),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
    if process is None or (process.returncode and not process.stderr.strip()):  # that program is no Python at all
        return _hashes_of_file(path, named)
    if process.returncode:
        raise FormatError(path, "a file that can be read back", process.stderr.strip().splitlines()[-1])
    try:  # whatever else of a Python's own start may print
        found = json.loads(process.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        found = None
    return found if isinstance(found, dict) else _hashes_of_file(path, named)


def _hashes_of_file(path: str, named: list[tuple[str, tuple[int, ...], str]] | None) -> dict[str, str]:
    layout = None if named is None else lambda _network: [(n, tuple(shape), dtype) for n, shape, dtype in named]
    return tensor_hashes(codec.reconstruct(codec.read_model(path, layout=layout, max_bytes=OWN_MODEL)))


def main() -> None:
    """Print the hashes of a file's tensors, as the process that reads back does."""
    json.dump(_hashes_of_file(sys.argv[1], json.load(sys.stdin)), sys.stdout)
