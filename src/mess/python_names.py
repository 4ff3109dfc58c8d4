"""Errors name flags, as most people type them; who calls the library from Python reads its keywords instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mess.errors import OptionError

KEYWORDS = {"version": "scheme", "bind_size": "bind", "quant_bit": "quant_bits"}  # that are not the flag's own name
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


@contextmanager
def keywords_for_flags() -> Iterator[None]:
    """Say ``target_size`` where an error of the block says ``--target-size``."""
    try:
        yield
    except OptionError as error:
        parts = (error.where, error.expected, error.found, error.hint)
        raise OptionError(*(_spelt(part) for part in parts)) from None


def _spelt(text: str) -> str:
    spelt = FLAG.sub(lambda m: KEYWORDS.get(m[1].replace("-", "_"), m[1].replace("-", "_")), text)
    return re.sub(r"(?<![\w-])-v (v[0-9]\w*)", r'scheme="\1"', spelt)
