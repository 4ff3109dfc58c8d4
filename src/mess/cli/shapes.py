"""Shapes, and patterns of layers, as they are typed."""

from __future__ import annotations

from contextlib import suppress

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


def kept_layers(pattern: str) -> tuple[str, str]:
    """Return what `layers` says of layers that stay as they are."""
    return pattern, "keep"


def finer_layers(text: str) -> tuple[str, dict[str, float]]:
    """Return a pattern and what `layers` says of it, from a text such as "features.*=2".

    Raises:
        OptionError: something else.
    """
    pattern, _, factor = text.rpartition("=")
    with suppress(ValueError):
        if pattern:
            return pattern, {"finer": float(factor)}
    raise OptionError("--finer", "a pattern and a factor, as features.*=2", text)
