"""Giving memory back: what has been freed need not stay with the process."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory to the system, where the C library is one that keeps it and can be asked.

    glibc keeps what has been freed for the next use. After passes of ImageNet's size that is a lot when the widest
    layers come, which need the most.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
