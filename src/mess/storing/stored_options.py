"""How a file is stored, as the options that would store it so again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from mess import codec
from mess.codec.contents import KEPT
from mess.codec.info import bits_of
from mess.codec.numbers import NumberArray
from mess.scheme import SCHEMES, get_scheme

HALVES = ("float16", "bfloat16")


def options_in(stored: codec.StoredModel) -> dict[str, Any]:
    """Return what a file shows of `StoreOptions`, by name; what it cannot show, or what is usual, is left out."""
    scheme = get_scheme(str(stored.scheme.get("version")))
    found: dict[str, Any] = {}
    if "bind" in stored.scheme:
        found["bind"] = stored.scheme["bind"]
    if "quant_bits" in stored.scheme:
        found["quant_bits"] = stored.scheme["quant_bits"]
        found |= {} if SCHEMES[scheme.version].quant_bits is not None else {"quant": True}
    if kept := stored.scheme.get(KEPT):
        found["layers"] = dict.fromkeys(kept, "keep")
    if scheme.learned:
        return found
    matched = [entry for entry in stored.entries.values() if isinstance(entry, codec.Matched)]
    by_row = [entry for entry in matched if stored.books[entry.book].by_row]
    if by_row:
        found["pointwise"] = stored.books[by_row[0].book].unit
        found |= {"linear": True} if any(len(entry.shape) == 2 for entry in by_row) else {}
    numbers: dict[str, Iterable[NumberArray | None]] = {
        "scale_bits": (entry.scale_N for entry in matched),
        "offset_bits": (entry.offset_N for entry in matched),
        "rest_bits": _rest(stored, kept or ()),
    }
    return found | {name: bits for name, arrays in numbers.items() if (bits := _usual_bits(arrays)) not in (None, 32)}


def _rest(stored: codec.StoredModel, kept: Iterable[str]) -> Iterable[NumberArray]:
    """Yield the numbers that no reference stands for."""
    apart = set(kept)
    for name, entry in stored.entries.items():
        if isinstance(entry, codec.BatchNorm):
            yield from (entry.scale, entry.shift)
        elif isinstance(entry, codec.Plain) and name not in apart and entry.dtype.startswith(("float", "bfloat")):
            yield entry.numbers


def _usual_bits(arrays: Iterable[NumberArray | None]) -> int | None:
    """Return the bits that most arrays are kept in; None where there are none."""
    counts = Counter(
        bits_of(array.values) if array.step is not None else 16 if array.dtype in HALVES else 32
        for array in arrays
        if array is not None and len(array)
    )
    counts.pop(0, None)  # of nothing but zeros
    return counts.most_common(1)[0][0] if counts else None
