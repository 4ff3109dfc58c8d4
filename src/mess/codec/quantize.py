"""Rounding numbers to few bits: choose a step, quantize; `NumberArray.floats` undoes it."""

from __future__ import annotations

import numpy as np

from mess.codec.dtypes import NAMED
from mess.codec.numbers import NumberArray
from mess.errors import OptionError, WeightsError

STEPPED_BITS = range(2, 13)  # that make multiples of one step; 16 and 32 are floats
BITS = (*STEPPED_BITS, 16, 32)


def choose_step(values_N: np.ndarray, bits: int) -> float:
    """Return the step with which the largest magnitude is the largest integer of `bits` bits, 2^(b−1) − 1."""
    largest, count = float(np.abs(values_N).max(initial=0.0)), 2 ** (bits - 1) - 1
    step = np.float32(largest / count)
    if float(step) * count > float(np.finfo(np.float32).max):  # rounded up, at the very end of what there is
        step = np.nextafter(step, np.float32(0))
    return float(step) if step > 0 else 1.0


def quantize(values_N: np.ndarray, step: float) -> np.ndarray:
    """Return the nearest multiples of `step`, as int32; halves to even."""
    return np.rint(values_N.astype(np.float64) / step).astype(np.int32)


def quantize_numbers(values_N: np.ndarray, dtype: str, bits: int, where: str) -> NumberArray:
    """Return numbers of `dtype` in the form that `bits` asks for.

    Args:
        values_N: flat; bfloat16 as uint16.
        dtype: by torch's name.
        bits: 32 keeps them as they are, 16 makes float16 of 32- and 64-bit floats (where their size allows), 2…12
            rounds them to multiples of one step. Integers and booleans are always kept as they are.
        where: the tensor, for errors.

    Raises:
        WeightsError: NaN or infinity.
        OptionError: another number of bits.
    """
    if bits not in BITS:
        raise OptionError(where, "2…12, 16 or 32 bits", bits)
    kept = NumberArray(np.ascontiguousarray(values_N).reshape(-1), dtype)
    if not NAMED[dtype].is_float:
        return kept
    floats_N = kept.floats()
    if not np.isfinite(floats_N).all():
        raise WeightsError(where, "finite numbers that float32 can hold", "NaN, infinity or larger ones")
    if bits == 32:
        return kept
    if bits == 16:
        fits = np.abs(floats_N).max(initial=0.0) <= np.finfo(np.float16).max
        return NumberArray(floats_N.astype(np.float16), "float16") if dtype in ("float32", "float64") and fits else kept
    step = choose_step(floats_N, bits)
    return NumberArray(quantize(floats_N, step), "int32", step)
