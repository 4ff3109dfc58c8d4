"""Unpacking untrusted archives: nothing leaves the target, no links, and a folder is whole or not there."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mess.errors import DownloadError

# what reading a damaged archive may raise; an encrypted zip is a RuntimeError, an unknown method NotImplementedError
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError, ValueError, RuntimeError,
)  # fmt: skip


def unpack(archive: Path, target: Path) -> None:
    """Unpack a ``.tar``, ``.tar.gz`` or ``.zip`` whose names all lie in one folder, which takes its place at once.

    Args:
        target: the folder that the archive's own folder becomes; it must not be there.

    Raises:
        DownloadError: a damaged archive, a name that leads out of it, a link or a device in it.
    """
    scratch = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        _unpack_all(archive, scratch)
        inside = list(scratch.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            raise DownloadError(archive, "an archive of one folder", f"{len(inside)} entries")
        inside[0].replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive, packed or not.

    Raises:
        DownloadError: it is damaged, as may show only while it is read.
    """
    try:
        with tarfile.open(archive) as packed:
            yield packed
    except DAMAGE as error:
        raise DownloadError(archive, "a tar archive", f"a damaged one ({error})") from error


def checked_name(name: str, archive: Path) -> PurePosixPath:
    """Return a name within an archive.

    Raises:
        DownloadError: it is absolute or leads out.
    """
    path = PurePosixPath(name)
    hostile = path.is_absolute() or ".." in path.parts or any(sign in name for sign in "\\:\0")
    if hostile or not path.parts:
        raise DownloadError(archive, "names inside the archive's folder", repr(name)[:80], "It was not unpacked")
    return path


def _unpack_all(archive: Path, scratch: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for entry in packed.infolist():
                    path = scratch / checked_name(entry.filename, archive)
                    if not entry.is_dir():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        with packed.open(entry) as source, path.open("wb") as out:
                            shutil.copyfileobj(source, out)
            return
        with tarfile.open(archive) as packed_tar:
            for member in packed_tar:
                path = scratch / checked_name(member.name, archive)
                if member.isdir():
                    path.mkdir(parents=True, exist_ok=True)
                elif member.isfile():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    content = packed_tar.extractfile(member)
                    if content is not None:
                        with content, path.open("wb") as out:
                            shutil.copyfileobj(content, out)
                else:
                    raise DownloadError(archive, "files and folders", f"a link or device: {member.name!r}")
            while packed_tar.fileobj is not None and packed_tar.fileobj.read(1 << 20):
                pass  # to the very end, where the checksum of a .gz is
    except DAMAGE as error:
        raise DownloadError(archive, "an archive", f"a damaged one ({error})") from error
