"""Shapes as they are typed."""

from __future__ import annotations

from mess.errors import OptionError


def shape_of_input(text: str) -> tuple[int, ...]:
    """Return the sizes in a text such as "3,48,320".

    Raises:
        OptionError: something else.
    """
    sizes = text.split(",")
    if not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise OptionError("--input-shape", "sizes with commas between, as 3,48,320", text)
    return tuple(map(int, sizes))
