"""The order of names where no module says one: the same for the same names, in whatever container they come."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBERS = re.compile("([0-9]+)")


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Return names sorted as people count: ``blocks.2`` before ``blocks.10``.

    Example:
        >>> in_natural_order(["head", "blocks.10", "blocks.2"])
        ['blocks.2', 'blocks.10', 'head']
    """
    return sorted(names, key=_key)


def _key(name: str) -> tuple[list[str | int], str]:
    parts = NUMBERS.split(name)  # text and digits in turn
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
