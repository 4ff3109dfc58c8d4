"""Giving memory back: what has been freed need not stay with the process."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory to the system, where the C library is one that keeps it and can be asked.

    glibc keeps what a thread has freed for that thread's next use. Passes run in threads of their own, and passes of
    ImageNet's size had left a gigabyte behind when the widest layers came, which need the most.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
