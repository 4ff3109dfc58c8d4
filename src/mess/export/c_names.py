"""Names of tensors as C identifiers: valid, never the same twice, and none that C or the decoder has taken."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAME = 63  # characters that C99 promises to tell apart


class Names:
    """Gives out identifiers that all begin with the same prefix.

    Args:
        stem: what the prefix is made of, such as the header's file name.
        taken: identifiers that must not come up.
    """

    def __init__(self, stem: str, taken: Iterable[str] = ()) -> None:
        cleaned = _cleaned(stem)
        self.prefix = cleaned if cleaned[:1].isalpha() else f"net_{cleaned}".rstrip("_")
        self._taken = set(taken)

    def take(self, name: str) -> str:
        """Return an identifier for `name`, as near to it as possible; it is not given out again."""
        wish = f"{self.prefix}_{_cleaned(name) or 'x'}"
        if wish.endswith("_t") or wish.isupper():  # types and macros of <stdint.h>
            wish += "_"
        found, number = wish[:MAX_NAME], 1
        while found in self._taken:
            number += 1
            found = wish[: MAX_NAME - len(f"_{number}")] + f"_{number}"
        self._taken.add(found)
        return found


def _cleaned(text: str) -> str:
    return re.sub("[^A-Za-z0-9]+", "_", text).strip("_")
