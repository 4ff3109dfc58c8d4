"""The manifest: canonical JSON, compressed, bounded on both sides, and nothing in it that Python would stumble over."""

from __future__ import annotations

import json
import re
from typing import Any

from mess.codec.frames import RAW, pack, unpack
from mess.errors import FormatError, OptionError

MAX_BYTES = 1 << 26  # bytes of JSON
MAX_DEPTH = 16
MAX_DIGITS = 30  # characters
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')


def pack_manifest(manifest: dict[str, Any], *, compressed: bool = True) -> tuple[int, bytes]:
    """Return (coder, content): the same manifest gives the same bytes, whatever the order of its keys.

    Without `compressed` it is left as JSON.

    Raises:
        OptionError: facts that JSON cannot hold: NaN, objects, text that is none.
    """
    try:
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # a UnicodeEncodeError is a ValueError
        raise OptionError("about", "finite numbers, text, and lists and dicts of them", error) from error
    return pack(text) if compressed else (RAW, text)


def unpack_manifest(coder: int, content: bytes, where: str) -> dict[str, Any]:
    """Undo `pack_manifest`.

    Raises:
        FormatError: too large on either side, not JSON, or JSON with duplicate keys, NaN, or nesting or numbers that do
            not end.
    """
    text = unpack(coder, content, MAX_BYTES, "manifest", where)
    bare = STRINGS.sub(b"", text)
    depth = deepest = 0
    for character in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if character in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise FormatError(where, f"JSON nested at most {MAX_DEPTH} deep", f"{deepest} deep")
    if re.search(rb"[0-9.eE+-]{%d}" % (MAX_DIGITS + 1), bare):
        raise FormatError(where, f"numbers of at most {MAX_DIGITS} characters", "a longer one")
    try:
        manifest = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError(where, "a manifest in JSON", f"{error}") from error
    if not isinstance(manifest, dict):
        raise FormatError(where, "a JSON object", type(manifest).__name__)
    return manifest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
