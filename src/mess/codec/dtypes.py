"""The dtypes that a file can hold, a row each: what stands in the file, in memory, and in names (FORMAT.md 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """A dtype.

    Attributes:
        name: torch's.
        number: that stands for it in a file.
        bytes: of a number.
        array: NumPy's dtype of its numbers; bfloat16 and bool, which NumPy lacks or checks, are kept as their bits.
        lowest, highest: of its integers; 0 and 0 for floats.
    """

    name: str
    number: int
    bytes: int
    array: np.dtype
    lowest: int
    highest: int

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floats, which are kept in planes of bytes."""
        return self.lowest == self.highest


def _row(number: int, name: str, array: str = "", highest: int | None = None) -> Dtype:
    dtype = np.dtype(array or name)
    if "float" in name:
        return Dtype(name, number, dtype.itemsize, dtype, 0, 0)
    limits = np.iinfo(dtype)
    return Dtype(name, number, dtype.itemsize, dtype, int(limits.min), int(limits.max) if highest is None else highest)


DTYPES = (
    _row(0, "float32"),
    _row(1, "float16"),
    _row(2, "bfloat16", "uint16"),
    _row(3, "float64"),
    _row(4, "int64"),
    _row(5, "int32"),
    _row(6, "int16"),
    _row(7, "int8"),
    _row(8, "uint8"),
    _row(9, "bool", "uint8", highest=1),
)  # in the order of their numbers
NAMED = {dtype.name: dtype for dtype in DTYPES}
