"""Output on terminals that have few characters: what they lack is said in plain ones, and nothing ends in an error."""

from __future__ import annotations

import codecs
import sys

WORDS = {
    "α": "alpha", "β": "beta", "λ": "lambda", "ρ": "rho", "×": "x", "·": ".", "²": "^2", "…": "...", "–": "-", "—": "-",
    "−": "-", "‖": "||", "≤": "<=", "≥": ">=", "∞": "inf", "→": "->", "►": ">", "“": '"', "”": '"', "‘": "'", "’": "'",
    "•": "*", "ŵ": "w^",
}  # fmt: skip
LINES, BLOCKS, DOTS = range(0x2500, 0x2580), range(0x2580, 0x25A0), range(0x2800, 0x2900)  # of Unicode
HANDLER = "mess.plain"


def make_plain() -> None:
    """Let standard output and error write what their encoding lacks in plain characters (cp1252, ASCII)."""
    codecs.register_error(HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not of streams that tests or notebooks put in place
        if reconfigure is not None:
            reconfigure(errors=HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain, error.object[error.start : error.end])), error.end


def plain(character: str) -> str:
    """Return ASCII in place of one character; lines, bars and spinners keep their width."""
    code = ord(character)
    if character in WORDS:
        return WORDS[character]
    if code in LINES:
        return "|" if character in "│┃║" else "-"
    return "#" if code in BLOCKS else "*" if code in DOTS else "?"
