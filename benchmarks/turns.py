"""Several programs that run for long, timed side by side in short windows, so that a slow spell meets all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

Window = Callable[[float], None]  # a program calls it with its loss at the end of each window


class _EnoughError(Exception):
    """Ends a program that has been timed often enough."""


@dataclass
class Timed:
    """What one program did, window by window; the first window, with start-up, is not among them.

    Attributes:
        wall_s, cpu_s: seconds of each window; of the processor those of all threads of this process.
        losses: what the program called its window with, of all windows.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def take_turns(programs: dict[str, Callable[[Window], None]], rounds: int) -> dict[str, Timed]:
    """Run each program in a thread of its own, one at a time, a window each in turn, `rounds` times after the first.

    A program that fails ends the measurement with its error.
    """
    timed = {name: Timed() for name in programs}
    go = {name: threading.Semaphore(0) for name in programs}
    news: SimpleQueue[Future[None] | None] = SimpleQueue()  # None: a window has ended, else a program has
    left = threading.Event()

    def run(name: str) -> None:
        def window(loss: float) -> None:
            timed[name].losses.append(loss)
            news.put(None)
            go[name].acquire()
            if left.is_set():
                raise _EnoughError

        go[name].acquire()
        if not left.is_set():
            with suppress(_EnoughError):
                programs[name](window)

    with ThreadPoolExecutor(len(programs)) as pool:
        try:
            for name in programs:
                pool.submit(run, name).add_done_callback(news.put)
            for number in range(rounds + 1):
                for name, times in timed.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    go[name].release()
                    if (ended := news.get()) is not None:
                        ended.result()
                        raise RuntimeError(f"{name} ended after {len(times.losses)} windows")
                    if number:
                        times.wall_s.append(time.perf_counter() - wall)
                        times.cpu_s.append(time.process_time() - cpu)
        finally:
            left.set()
            for semaphore in go.values():
                semaphore.release()
    return timed
