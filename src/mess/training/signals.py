"""SIGTERM and SIGINT as a wish that is met between two steps, not as an interruption of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

WATCHED = (signal.SIGINT, signal.SIGTERM)


class StopRequested(Exception):  # noqa: N818 - not an error: somebody wants the run to stop here
    """Raised between two steps, in every process, after a signal."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


class SignalWatch:
    """Within ``with SignalWatch() as watch:`` the first SIGINT or SIGTERM only sets `watch.received`.

    A second Ctrl-C leaves at once (KeyboardInterrupt); a second SIGTERM changes nothing, as the state is being saved.
    Outside the main thread Python delivers no signals, and nothing is installed.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number, 0 = none
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._handle) for signum in WATCHED}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self.received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signum
