"""mess.h as Python's reader: the same numbers, several times faster, on all cores.

It is there once somebody has built it (`mess reader --build`): a compiler is never run otherwise. The library lies in
the user's cache under a name that has the source's hash, and is loaded only if nobody else could have written it.
Without it, or with MESS_READER=python, NumPy and constriction read.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mess.errors import MessError
from mess.files import cache_home

SOURCES = ("mess.h", "reader.c")
FOLDER = Path(__file__).parents[1] / "decoder"
COMPILERS = ("cc", "gcc", "clang")
# -O3 alone: what is built here may be run on another machine that shares the home
FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
ENOUGH_BYTES = 1 << 20  # of tensors a thread, below which starting a thread costs more than it saves
MEMORY = 11  # mess.h: MESS_MEMORY


class NativeRefusedError(Exception):
    """The library does not read this; the reader in Python says why, or reads it."""


@dataclass(frozen=True)
class Wanted:
    """A tensor to decode: its place in the file's list, its part (of a BatchNorm layer), and where it goes."""

    item: int
    part: int
    out: np.ndarray


def library_path() -> Path:
    """Return where the library of this very source, for this machine, is or would be."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((FOLDER / name).read_bytes())
    digest.update(" ".join([*FLAGS, platform.system(), platform.machine(), str(sys.maxsize)]).encode())
    return cache_home() / "mess" / f"reader-{digest.hexdigest()[:20]}.so"


def build() -> Path:
    """Compile the library, unless it is there, and return where it is.

    Raises:
        MessError: no compiler, or one that fails.
    """
    path = library_path()
    if _is_ours(path):
        return path
    compiler = os.environ.get("CC") or next((c for c in COMPILERS if shutil.which(c)), None)
    if compiler is None:
        raise MessError("reader", f"a C compiler ({', '.join(COMPILERS)})", "none", "Files are read without it, too")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    command = [*compiler.split(), *FLAGS, "-o", made, str(FOLDER / "reader.c")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - asked for by name
        if done.returncode:
            raise MessError("reader", "a C compiler that works", (done.stderr.strip().splitlines() or ["nothing"])[0])
        try:
            ctypes.CDLL(made)
        except OSError as error:
            raise MessError("reader", "a library that can be loaded", error) from error
        Path(made).chmod(0o700)
        Path(made).replace(path)
    finally:
        Path(made).unlink(missing_ok=True)
    _loaded.cache_clear()
    return path


def library() -> ctypes.CDLL | None:
    """Return the library, or None where it was not built or may not be used."""
    if os.environ.get("MESS_READER", "").lower() == "python":
        return None
    return _loaded()


def reader_name() -> str:
    """Return which reader serves: "C, on 2 threads", or "Python"."""
    return "Python" if library() is None else f"C, on {threads()} threads"


def threads() -> int:
    """Return how many threads decode a large file."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode(content: bytes, wanted: Sequence[Wanted], *, most_threads: int | None = None) -> None:
    """Decode tensors of a file into their arrays.

    Args:
        content: a file that says everything itself, its manifest uncompressed, tensors in any order.

    Raises:
        NativeRefusedError: the library is not there, or refuses the file; arrays may be half written.
    """
    found = library()
    if found is None:
        raise NativeRefusedError
    file = ctypes.create_string_buffer(found.mess_reader_size())
    memory, need = ctypes.create_string_buffer(0), ctypes.c_size_t()
    while error := found.mess_reader_open(file, content, len(content), memory, len(memory), ctypes.byref(need)):
        if error != MEMORY or need.value <= len(memory):
            raise NativeRefusedError
        memory = _room(need.value)
    total = sum(w.out.nbytes for w in wanted)
    count = max(1, min(most_threads or threads(), total // ENOUGH_BYTES))
    errors = [1] * count  # until each is through

    def work(number: int, share: list[Wanted]) -> None:
        n = len(share)
        items, parts = ((ctypes.c_uint32 * n)(*(getattr(w, what) for w in share)) for what in ("item", "part"))
        outs = (ctypes.c_void_p * n)(*(w.out.ctypes.data for w in share))
        sizes = (ctypes.c_size_t * n)(*(w.out.nbytes for w in share))
        scratch = max((found.mess_reader_scratch(file, w.item, w.part) for w in share), default=0)
        room = _room(scratch)
        errors[number] = found.mess_reader_decode(file, n, items, parts, outs, sizes, room, len(room))

    shares = _shared_out(wanted, count)
    others = [threading.Thread(target=work, args=(n, share)) for n, share in enumerate(shares) if n]
    for thread in others:
        thread.start()
    work(0, shares[0])
    for thread in others:
        thread.join()
    if any(errors):
        raise NativeRefusedError


def _shared_out(wanted: Sequence[Wanted], count: int) -> list[list[Wanted]]:
    """Return shares of about the same bytes: the largest first, each to who has least."""
    shares: list[list[Wanted]] = [[] for _ in range(count)]
    sizes = [0] * count
    for one in sorted(wanted, key=lambda w: -w.out.nbytes):
        least = sizes.index(min(sizes))
        shares[least].append(one)
        sizes[least] += one.out.nbytes
    return shares


def _room(size: int) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * max(1, size)).from_buffer(bytearray(max(1, size)))


@lru_cache(maxsize=1)
def _loaded() -> ctypes.CDLL | None:
    try:
        path = library_path()
        if not _is_ours(path):
            return None
        found = ctypes.CDLL(str(path))
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        for name, result, arguments in (
            ("size", size, []),
            ("open", ctypes.c_int, [pointer, ctypes.c_char_p, size, pointer, size, pointer]),
            ("scratch", size, [pointer, ctypes.c_uint32, ctypes.c_uint32]),
            ("decode", ctypes.c_int, [pointer, size, pointer, pointer, pointer, pointer, pointer, size]),
        ):
            function = getattr(found, f"mess_reader_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, RuntimeError, AttributeError):  # no home, no such file, another machine's
        return None
    return found


def _is_ours(path: Path) -> bool:
    """Return whether a library is there that this user, or root, and nobody else could have written."""
    try:
        for part in (path, path.parent):
            status = part.stat()
            if hasattr(os, "getuid") and (status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022):
                return False
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
