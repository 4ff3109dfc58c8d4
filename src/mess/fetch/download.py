"""One file from the network: mirrors in order, resumed where it broke off, checked before it has its name.

What has arrived stays in a hidden `.NAME.part` beside the target, so that the next try, or the next run, asks only for
the rest (HTTP Range, RFC 9110 clause 14). The hash is taken while the bytes come in. Processes that want the same file
at once wait for the first of them. Proxies are those of the environment, as `requests` reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from urllib3.exceptions import ReadTimeoutError

from mess.errors import DownloadError
from mess.files import destination, sync_folder

DownloadProgress = Callable[[str, int, "int | None"], None]  # what, bytes so far, bytes in all if known

CHUNK = 1 << 18  # of a file on disk
PIECE = 1 << 14  # of a connection: what is lost at most where it breaks
TRIES = 5  # of each mirror, not counting those that brought much
MUCH = 1 << 20  # bytes: a line that breaks every so often gets there all the same
MAX_WAIT = 60.0  # seconds that a server may ask us to wait
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces


@dataclass(frozen=True)
class Remote:
    """A file and where it is.

    Attributes:
        name: for people.
        urls: mirrors, tried in this order.
        hash: ``sha256:…``, ``sha1:…`` or ``md5:…``; a prefix of the digest will do. Empty: nothing to check against.
        about: what to do where no mirror works: a link to the place a person gets it from.
    """

    name: str
    urls: tuple[str, ...]
    hash: str = ""
    about: str = ""


class _Passing(Exception):  # noqa: N818 - no error yet: the next try may work
    """A try that failed for now."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Final(Exception):  # noqa: N818 - no error yet: the next mirror may have it
    """A mirror that has not got it."""


@dataclass
class _Part:
    """What has arrived so far, and its hash."""

    path: Path
    algorithm: str
    digest: Any = field(init=False)
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.digest = hashlib.new(self.algorithm, usedforsecurity=False)
        if self.path.exists():
            with self.path.open("rb") as file:
                for piece in iter(lambda: file.read(CHUNK), b""):
                    self.digest.update(piece)
                    self.size += len(piece)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.__post_init__()
        self.size = 0


def fetch(
    remote: Remote,
    target: Path,
    *,
    headers: Mapping[str, str] | None = None,
    progress: DownloadProgress | None = None,
    offline: bool = False,
    pause: float = 1.0,
    timeout: tuple[float, float] = TIMEOUT,
) -> Path:
    """Return `target`, fetched unless it is there and whole.

    Args:
        headers: of every request, an Authorization for example.
        progress: told as bytes arrive.
        offline: ask no server.
        pause: seconds before the second try; doubled before each further one.

    Raises:
        OutputError: `target` is a device, a pipe or a folder.
        DownloadError: no mirror gave it; says what each of them did. What has arrived is kept for the next run.
        OSError: the disk is full, or the folder cannot be written.
    """
    real = destination(target)
    if _is_whole(real, remote):
        return target
    if offline:
        raise DownloadError(target, "the file, since --offline is given", "none that is whole", remote.about)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The lock stays: one that its holder deletes lets in two, one that waits for the old file and one that makes a new
    # one of the same name.
    with FileLock(real.with_name(f".{real.name}.lock")):
        if not _is_whole(real, remote):  # another process may have fetched it meanwhile
            _from_mirrors(remote, real, dict(headers or {}), progress, pause, timeout)
    return target


def _is_whole(target: Path, remote: Remote) -> bool:
    return target.exists() and (not remote.hash or matches(target, remote.hash))


def _from_mirrors(
    remote: Remote,
    target: Path,
    headers: dict[str, str],
    progress: DownloadProgress | None,
    pause: float,
    timeout: tuple[float, float],
) -> None:
    algorithm, _, wanted = remote.hash.partition(":")
    part = _Part(target.with_name(f".{target.name}.part"), algorithm or "sha256")
    failures = []
    for url in remote.urls:
        try:
            _from_mirror(url, part, wanted, headers, remote.name, progress, pause, timeout)
        except _Final as reason:
            failures.append(f"{url}: {reason}")
            continue
        with part.path.open("rb") as file:
            os.fsync(file.fileno())
        part.path.replace(target)
        sync_folder(target.parent)
        return
    raise DownloadError(remote.name, "one of its mirrors to give it", "; ".join(failures), remote.about)


def matches(path: Path, expected: str, progress: DownloadProgress | None = None) -> bool:
    """Return whether a file has this hash (``algorithm:hex``, or the beginning of it)."""
    algorithm, _, wanted = expected.partition(":")
    done, size = 0, path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for piece in iter(lambda: file.read(CHUNK), b""):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(f"checking {path.name}", done, size)
    return digest.hexdigest().startswith(wanted)


def _from_mirror(
    url: str,
    part: _Part,
    wanted: str,
    headers: dict[str, str],
    name: str,
    progress: DownloadProgress | None,
    pause: float,
    timeout: tuple[float, float],
) -> None:
    """Complete `part` from one mirror, or say why not."""
    reason, failed, wrong = "", 0, 0
    while failed < TRIES and wrong < 2:  # a second whole copy that is wrong is what this mirror has
        before = part.size
        try:
            _one_try(url, part, headers, name, progress, timeout)
        except _Passing as passing:
            reason = str(passing)
            failed = 0 if part.size - before >= MUCH else failed + 1
            if failed < TRIES:
                wait = min(MAX_WAIT, passing.wait if passing.wait is not None else pause * 2 ** max(0, failed - 1))
                if progress is not None:
                    progress(f"{name}: {reason}, again in {wait:.0f} s", part.size, None)
                time.sleep(wait)
            continue
        found = part.digest.hexdigest()
        if found.startswith(wanted):
            return
        part.drop()
        wrong += 1
        reason = f"hash {found[: len(wanted)]} in place of {wanted}"
    raise _Final(reason)


def _one_try(
    url: str,
    part: _Part,
    headers: dict[str, str],
    name: str,
    progress: DownloadProgress | None,
    timeout: tuple[float, float],
) -> None:
    wanted = {**headers, "Accept-Encoding": "identity"}  # ranges are of the file's bytes, not of a compressed stream
    if part.size:
        wanted["Range"] = f"bytes={part.size}-"
    with _transient(), requests.get(url, headers=wanted, stream=True, timeout=timeout) as answer:
        total = _checked(answer, part)
        if 0 < part.size == total:  # it was all there; the answer is an error page
            return
        with part.path.open("ab") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                part.digest.update(piece)
                part.size += len(piece)
                if progress is not None:
                    progress(name, part.size, total)
        if total is not None and part.size < total:
            raise _Passing(f"cut off after {part.size:,} of {total:,} bytes", 0.0)
        if total is not None and part.size > total:
            part.drop()
            raise _Passing("more bytes than it said")


def _checked(answer: requests.Response, part: _Part) -> int | None:
    """Return the size of the whole file if it is known; start over where the server does not go on."""
    status = answer.status_code
    if status == 416:  # what we have is as long as the file, or longer than it
        _, _, whole = answer.headers.get("Content-Range", "").partition("/")
        if whole.isdigit() and int(whole) == part.size:
            return part.size
        part.drop()
        raise _Passing("a range that does not exist", 0.0)
    if status == 429 or status >= 500:
        raise _Passing(f"status {status}", _retry_after(answer.headers.get("Retry-After", "")))
    if status in (401, 403):
        raise _Final(f"status {status}: no access")
    if status not in (200, 206):
        raise _Final(f"status {status}")
    length = answer.headers.get("Content-Length", "")
    if status == 206:
        start, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if start.partition("-")[0] == str(part.size):
            return int(whole) if whole.isdigit() else None
        part.drop()
        raise _Passing("another range than was asked for", 0.0)
    if part.size:  # the server sends all of it
        part.drop()
    return int(length) if length.isdigit() else None


def _retry_after(value: str) -> float | None:
    """Return the seconds a server asks us to wait: it says a number or a date (RFC 9110 clause 10.2.3)."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


@contextlib.contextmanager
def _transient() -> Iterator[None]:
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise _Final(str(error)) from error
    except requests.exceptions.Timeout as error:
        raise _Passing("no answer in time") from error
    except requests.exceptions.RequestException as error:
        if isinstance(
            error.args[0] if error.args else None, ReadTimeoutError
        ):  # within the body: no Timeout of requests
            raise _Passing("no answer in time") from error
        raise _Passing(f"connection lost ({type(error).__name__})") from error
