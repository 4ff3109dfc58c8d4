"""Writing a file so that a reader sees the old one or the new one, never less."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place when the block ends without an error.

    Temporary file, flush, fsync, rename, fsync of the folder: a crash or a full disk at any moment leaves what was
    at `path` before. Every writer has its own temporary file, so two at once cannot mix; the last one wins.

    Raises:
        FileExistsError: `overwrite` is false and something is at `path` (checked without a race, by linking).
        OSError: the folder cannot be written or the disk is full; names `path`, and nothing is left behind.
    """
    path = Path(path)
    try:
        with _temporary(path, overwrite) as file:
            yield file
    except OSError as error:
        if not isinstance(error, FileExistsError):
            error.filename = str(path)  # a full disk names none, all else the temporary file
        raise


@contextmanager
def _temporary(path: Path, overwrite: bool) -> Iterator[IO[bytes]]:
    opened = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed before it is renamed, below
        prefix=f".{path.name}.", suffix=".tmp", dir=path.parent, delete=False
    )
    temporary = opened.name
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101 - a temporary file has 0600, a plain open() would not
        if overwrite:
            os.replace(temporary, path)  # noqa: PTH105
        else:
            os.link(temporary, path)
            os.unlink(temporary)  # noqa: PTH108
        sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def atomic_write(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = True) -> None:
    """Write `content` to `path` in one step; see `atomic_writer`."""
    with atomic_writer(path, overwrite=overwrite) as file:
        file.write(content)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable; where folders cannot be opened (Windows) there is nothing to do."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
