"""How far storing has come: a bar on a terminal, a line every so often where the output goes elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Event, Lock, Thread

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from mess.display.durations import clock

Hears = Callable[[str, int, int], None]
SILENCE_S = 30.0  # between two lines where no bar is drawn, in a log file for example
BAR = 16  # characters
MEMORY_S = 300.0  # how far back steps tell how fast the next ones go: layers of a network differ


@contextmanager
def shown(progress: Hears | bool, title: str) -> Iterator[Hears | None]:
    """Yield what hears how far work has come; None where nobody does.

    Args:
        progress: what hears it; or whether people see it, who sit before a terminal or a notebook.
        title: of the work.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    console = Console(stderr=True, highlight=False)
    if not progress or not _is_watched(console):
        yield None
        return
    with closing(Stages(console, title)) as stages:
        yield stages


class Stages:
    """A `StageProgress` for people: what is being done, k of n, and the time that is left of this stage; until `close`.

    Args:
        title: what all stages belong to; begins each line where no bar is drawn.
        silence: seconds between two such lines. They come from a thread of their own: one layer may take longer.
    """

    def __init__(self, console: Console, title: str, silence: float = SILENCE_S) -> None:
        self._title, self._silence = title, silence
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(BAR), _Done())
        # off a terminal rich would print what is left of its bars when it ends
        self._bars = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not _is_watched(console),
            refresh_per_second=4,
            speed_estimate_period=MEMORY_S,
        )
        self._lock, self._end = Lock(), Event()
        self._started = time.monotonic()
        self._stage: str | None = None
        self._task = self._bars.add_task(title, total=None)
        self._speaker: Thread | None = None
        if _is_watched(console):
            self._bars.start()
        else:
            self._speaker = Thread(target=self._speak, name="stages", daemon=True)
            self._speaker.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._end.set()
        if self._speaker is not None:
            self._speaker.join()
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear how far a stage has come; a total of 0 is not known."""
        with self._lock:
            if what != self._stage:
                self._bars.remove_task(self._task)
                self._task, self._stage = self._bars.add_task(what, total=total or None), what
            self._bars.update(self._task, completed=done, total=total or None)

    def _speak(self) -> None:
        while not self._end.wait(self._silence):
            with self._lock:
                task = self._bars.tasks[-1]
                stage = [task.description] if self._stage is not None else []
                so_far = f"{clock(time.monotonic() - self._started)} so far"
                text = ", ".join([": ".join([self._title, *stage]), *_how_far(task), so_far])
            self._bars.console.print(text, soft_wrap=True, markup=False)


def _is_watched(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


class _Done(ProgressColumn):
    """Write k of n and the time that is left."""

    def render(self, task: Task) -> Text:
        return Text(", ".join(_how_far(task)) or clock(task.elapsed or 0.0))


def _how_far(task: Task) -> list[str]:
    if task.total is None:
        return []
    left = task.time_remaining
    return [f"{task.completed:,.0f} of {task.total:,.0f}", *([] if left is None else [f"left {clock(left)}"])]
