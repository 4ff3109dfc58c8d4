"""What can be wrong with input: every error names where, what was expected and what was found.

The command line prints the message and exits with code 2; libraries' own exceptions never reach a user.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

EXIT_BAD_INPUT = 2  # of a command that a `MessError` ends


class MessError(Exception):
    """Base of every error that MESS raises on purpose.

    Args:
        where: the file, flag, layer or tensor at fault.
        expected: what would have been right.
        found: what was there instead.
        hint: what to do about it, where that is not obvious.
    """

    def __init__(self, where: object, expected: str, found: object, hint: str = "") -> None:
        self.where, self.expected, self.found, self.hint = str(where), expected, str(found), hint
        super().__init__(f"{where}: expected {expected}, found {found}" + (f". {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        """Keep the four parts when an error crosses a process border (DataLoader workers, launched ranks)."""
        return type(self), (self.where, self.expected, self.found, self.hint)


class OptionError(MessError):
    """A flag or argument, or a combination of them, that cannot work."""


class RangeError(OptionError):
    """Inputs on which numbers within a network leave float32.

    Args:
        what: the numbers.
    """

    def __init__(self, what: str) -> None:
        expected = "inputs in the range that the network was trained on"
        super().__init__("calibration", expected, f"{what} beyond float32")
        self.what = what

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), (self.what,)


class DataError(MessError):
    """A dataset that is missing, damaged or not what it claims to be."""


class OutputError(MessError):
    """A place that nothing can be written to: a device, a pipe, a folder, a link that leads nowhere."""


class WeightsError(MessError):
    """Weights that cannot be stored or loaded: wrong names, shapes, dtypes, weights with NaN or Inf."""


class CheckpointError(MessError):
    """A checkpoint that cannot be read, or that belongs to another network."""


class FormatError(MessError):
    """A `.mess` file that breaks docs/FORMAT.md."""


class DeviceError(MessError):
    """A device that is not there, or processes that could not be started."""


class DownloadError(MessError):
    """A download that could not be finished or that is not what was asked for."""


def one_of(names: Iterable[str], found: str) -> str:
    """Say which names are possible, the nearest to `found` first if there is a near one."""
    names = list(names)
    close = difflib.get_close_matches(found, names, n=1, cutoff=0.5)
    return f"one of {', '.join(names)}" + (f" (did you mean {close[0]}?)" if close else "")


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first few of several names, and how many more there are: "a, b, c and 2 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
