"""Numbers as a file holds them: raw, or integers with one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mess.codec.dtypes import NAMED

BLOCK = 1 << 18  # numbers that become floats at once, where these are not what is asked for


@dataclass(frozen=True)
class NumberArray:
    """A row of numbers.

    Attributes:
        values: flat array of `dtype` (bfloat16: uint16 of its bits; bool: uint8); int32 where there is a step.
        dtype: of `values`, by torch's name.
        step: with it a number is float32(q)·float32(step), rounded once.
    """

    values: np.ndarray
    dtype: str
    step: float | None = None

    def __len__(self) -> int:
        return len(self.values)

    def parts(self) -> Iterator[NumberArray]:
        """Yield the numbers block by block; what is computed of one takes little memory."""
        for start in range(0, len(self.values), BLOCK):
            yield replace(self, values=self.values[start : start + BLOCK])

    def is_finite(self) -> bool:
        """Return whether no number is NaN or infinity."""
        if self.step is not None or not NAMED[self.dtype].is_float:
            return True
        return all(
            bool(np.isfinite(part.floats() if self.dtype == "bfloat16" else part.values).all()) for part in self.parts()
        )

    def floats(self) -> np.ndarray:
        """Return the numbers as float32 (FORMAT.md 9.1)."""
        if self.step is not None:
            floats_N = self.values.astype(np.float32)
            floats_N *= np.float32(self.step)
            return floats_N
        if self.dtype == "bfloat16":
            return (self.values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return self.values.astype(np.float32)

    def as_dtype(self, dtype: str) -> np.ndarray:
        """Return the numbers as an array of another dtype; bfloat16 as uint16 (FORMAT.md 9.4)."""
        if self.step is None and self.dtype == dtype:
            return self.values.astype(self.values.dtype.newbyteorder("="))
        out_N, start = np.empty(len(self), NAMED[dtype].array), 0
        for part in self.parts():
            out_N[start : start + len(part)] = cast(part.floats(), dtype)
            start += len(part)
        return out_N


def cast(floats_N: np.ndarray, dtype: str) -> np.ndarray:
    """Return float32 numbers as `dtype` (themselves where that is float32), rounded to nearest, halves to even."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(floats_N).view(np.uint32)
        odd = (bits >> np.uint32(16)).astype(np.uint16)
        odd &= np.uint16(1)
        rounded = bits + np.uint32(0x7FFF)
        rounded += odd
        rounded >>= np.uint32(16)
        return rounded.astype(np.uint16)
    with np.errstate(over="ignore"):
        return floats_N.astype(np.dtype(dtype), copy=False)
