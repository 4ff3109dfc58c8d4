"""Sizes of files as people write them."""

from __future__ import annotations

import re

from mess.errors import OptionError

UNITS = {
    "": 1, "B": 1, "KB": 1000, "KIB": 1024, "MB": 1000**2, "MIB": 1024**2, "GB": 1000**3, "GIB": 1024**3,
}  # fmt: skip


def parse_size(size: int | str | None, flag: str = "--target-size") -> int | None:
    """Return bytes: 90000, "90KB" (of 1,000), "90KiB" (of 1,024), "1.5MB", "4GB".

    Args:
        size: as a person writes it.
        flag: that it is of, for errors.

    Raises:
        OptionError: no size.
    """
    if size is None:
        return None
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", str(size).strip()) if type(size) in (int, str) else None
    if not found or found[2].upper() not in UNITS or float(found[1]) <= 0:
        raise OptionError(flag, "a size such as 90000, 90KB or 1.5MB", size)
    return int(float(found[1]) * UNITS[found[2].upper()])
