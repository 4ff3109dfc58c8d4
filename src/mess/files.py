"""Files that are named, and writing one so that a reader sees the old one or the new one, never less."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TypeAlias

from mess.errors import FormatError, OptionError, OutputError

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO  # the latter open for reading

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def files_in(path: Path, endings: Collection[str]) -> list[Path]:
    """Return the path itself, or of a folder all files in it, however deep, that end so; sorted."""
    if not path.is_dir():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and p.is_file())


def named_files(named: Iterable[Path], endings: Collection[str], where: str) -> list[Path]:
    """Return the files that are named, and those in folders that are named which end so.

    Raises:
        OptionError: a folder without any.
    """
    found: list[Path] = []
    for path in named:
        if not (inside := files_in(path, endings)):
            raise OptionError(where, f"a folder with files that end in {', '.join(endings)}", path)
        found += inside
    return found


def cache_home() -> Path:
    """Return where the user's programs keep what can be had again: XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def path_or_bytes(source: Source) -> str | os.PathLike[str] | bytes:
    """Return a path as it is, and of all else the bytes.

    Raises:
        FormatError: an open file that gives no bytes, or something that is no file.
    """
    if isinstance(source, str | os.PathLike | bytes):
        return source
    content = source.read() if hasattr(source, "read") else source
    if not isinstance(content, bytes | bytearray | memoryview):
        raise FormatError("the file", "a path, bytes or a file open in binary mode", type(source).__name__)
    return bytes(content)


def destination(path: str | os.PathLike[str]) -> Path:
    """Return the plain file that writing to `path` replaces or makes: behind links, what they point to.

    Raises:
        OutputError: a folder, pipe, socket or device, or a link that leads nowhere. None of them is ever replaced.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if path.is_symlink():
            pointed = os.readlink(path)  # noqa: PTH115 - as it was written
            raise OutputError(path, "a file, or a link to one", f"a link to {pointed}, which is not there") from error
        return real
    if kind != stat.S_IFREG:
        raise OutputError(path, "a plain file to write to", f"{KINDS.get(kind, 'something else')}; it is left alone")
    return real


def check_output(path: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Args:
        overwrite: a file that is there may be replaced.
        source: what is read; it is never replaced by what is made of it.

    Raises:
        OptionError: something is there and may not be replaced.
        OutputError: it is no plain file, or its folder is not there.
    """
    real = destination(path)
    if not real.parent.is_dir():
        raise OutputError(path, "a folder that is there", f"no folder {path.parent}")
    if not real.exists():
        return
    if source is not None and source.exists() and real.samefile(source):
        raise OptionError(path, "an output of its own", "the very file that is read")
    if not overwrite:
        raise OptionError(path, "a new file name", "an existing file", "--force overwrites it")


@contextmanager
def atomic_writer(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place when the block ends without an error.

    Temporary file, flush, fsync, rename, fsync of the folder: a crash or a full disk at any moment leaves what was
    at `path` before. Every writer has its own temporary file, so two at once cannot mix; the last one wins. Links are
    written through: they stay, and what they point to is replaced. A file that is replaced keeps its permissions.

    Raises:
        OutputError: a folder, pipe, device or dangling link is at `path`.
        FileExistsError: `overwrite` is false and something is at `path` (checked without a race, by linking).
        OSError: the folder cannot be written or the disk is full; names `path`, and nothing is left behind.
    """
    real = destination(path)
    try:
        with _temporary(real, overwrite) as file:
            yield file
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None  # a full disk names none, all else the temporary file
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
        os.chmod(temporary, _mode(path))  # noqa: PTH101 - a temporary file has 0600
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


def _mode(path: Path) -> int:
    """Return the permissions of the file at `path`, or those that a plain open() would give a new one."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        current = os.umask(0)
        os.umask(current)
        return 0o666 & ~current


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable; where folders cannot be opened (Windows) there is nothing to do."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
