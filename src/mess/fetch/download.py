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
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

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


def no_progress(what: str, done: int, total: int | None) -> None:
    """Be a `DownloadProgress` that does nothing."""


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
            _Download(remote, real, dict(headers or {}), progress or no_progress, pause, timeout).run()
    return target


def _is_whole(target: Path, remote: Remote) -> bool:
    return target.exists() and (not remote.hash or matches(target, remote.hash))


def matches(path: Path, expected: str, progress: DownloadProgress = no_progress) -> bool:
    """Return whether a file has this hash (``algorithm:hex``, or the beginning of it)."""
    algorithm, _, wanted = expected.partition(":")
    done, size = 0, path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for piece in iter(lambda: file.read(CHUNK), b""):
            digest.update(piece)
            done += len(piece)
            progress(f"checking {path.name}", done, size)
    return digest.hexdigest().startswith(wanted)


class _Download:
    """What is asked of one download, what has arrived so far, and the hash of that."""

    def __init__(
        self,
        remote: Remote,
        target: Path,
        headers: dict[str, str],
        progress: DownloadProgress,
        pause: float,
        timeout: tuple[float, float],
    ) -> None:
        self.remote, self.target, self.headers, self.progress = remote, target, headers, progress
        self.pause, self.timeout = pause, timeout
        self.algorithm, _, self.wanted = remote.hash.partition(":")
        self.part = target.with_name(f".{target.name}.part")
        self._take_up()

    def _take_up(self) -> None:
        """Go on from what earlier tries have left."""
        self.size, self.digest = 0, hashlib.new(self.algorithm or "sha256", usedforsecurity=False)
        if self.part.exists():
            with self.part.open("rb") as file:
                for piece in iter(lambda: file.read(CHUNK), b""):
                    self._note(piece)

    def _note(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += len(piece)

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self._take_up()

    def run(self) -> None:
        """Complete the file from the first mirror that has it."""
        failures = []
        for url in self.remote.urls:
            try:
                self._from_mirror(url)
            except _Final as reason:
                failures.append(f"{url}: {reason}")
                continue
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            self.part.replace(self.target)
            sync_folder(self.target.parent)
            return
        raise DownloadError(self.remote.name, "one of its mirrors to give it", "; ".join(failures), self.remote.about)

    def _from_mirror(self, url: str) -> None:
        """Complete the part from one mirror, or say why not."""
        reason, failed, wrong = "", 0, 0
        while failed < TRIES and wrong < 2:  # a second whole copy that is wrong is what this mirror has
            before = self.size
            try:
                self._try(url)
            except _Passing as passing:
                reason = str(passing)
                failed = 0 if self.size - before >= MUCH else failed + 1
                if failed < TRIES:
                    usual = self.pause * 2 ** max(0, failed - 1)
                    wait = min(MAX_WAIT, usual if passing.wait is None else passing.wait)
                    self.progress(f"{self.remote.name}: {reason}, again in {wait:.0f} s", self.size, None)
                    time.sleep(wait)
                continue
            found = self.digest.hexdigest()
            if found.startswith(self.wanted):
                return
            self._drop()
            wrong += 1
            reason = f"hash {found[: len(self.wanted)]} in place of {self.wanted}"
        raise _Final(reason)

    def _try(self, url: str) -> None:
        # ranges are of the file's bytes, not of a compressed stream
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
        with _transient(), requests.get(url, headers=headers, stream=True, timeout=self.timeout) as answer:
            total = self._total(answer)
            if 0 < self.size == total:  # it was all there; the answer is an error page
                return
            with self.part.open("ab") as file:
                for piece in answer.iter_content(PIECE):
                    file.write(piece)
                    self._note(piece)
                    self.progress(self.remote.name, self.size, total)
            if total is not None and self.size < total:
                raise _Passing(f"cut off after {self.size:,} of {total:,} bytes", 0.0)
            if total is not None and self.size > total:
                self._drop()
                raise _Passing("more bytes than it said")

    def _total(self, answer: requests.Response) -> int | None:
        """Return the size of the whole file if it is known; start over where the server does not go on."""
        status = answer.status_code
        ranged, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if status == 416:  # what we have is as long as the file, or longer than it
            if whole.isdigit() and int(whole) == self.size:
                return self.size
            self._drop()
            raise _Passing("a range that does not exist", 0.0)
        if status == 429 or status >= 500:
            raise _Passing(f"status {status}", _retry_after(answer.headers.get("Retry-After", "")))
        if status in (401, 403):
            raise _Final(f"status {status}: no access")
        if status not in (200, 206):
            raise _Final(f"status {status}")
        if status == 206:
            if ranged.partition("-")[0] == str(self.size):
                return int(whole) if whole.isdigit() else None
            self._drop()
            raise _Passing("another range than was asked for", 0.0)
        if self.size:  # the server sends all of it
            self._drop()
        length = answer.headers.get("Content-Length", "")
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
        cause = error.args[0] if error.args else None
        if isinstance(cause, ReadTimeoutError):  # within the body: no Timeout of requests
            raise _Passing("no answer in time") from error
        raise _Passing(f"connection lost ({type(error).__name__})") from error
