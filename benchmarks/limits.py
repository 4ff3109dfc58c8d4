"""A limit in seconds on whatever runs within a block, its start-up included."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTimeError(Exception):
    """A program took longer than it may."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End the block with OutOfTimeError after so many seconds; a limit around it goes on to count."""

    def over(*_: object) -> None:
        raise OutOfTimeError(f"more than {seconds:.0f} s")

    handler, start = signal.signal(signal.SIGALRM, over), time.monotonic()
    around, _ = signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if around:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, around - (time.monotonic() - start)))
