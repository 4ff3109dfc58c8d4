"""HTML for notebooks: small tables in the colours of the page around them, light or dark; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LINE = "border-bottom:1px solid rgba(128,128,128,.35)"
CELL = "padding:.15em .9em .15em 0;text-align:"
PLAIN = "background:none;color:inherit;font:inherit"  # as the page around it, not as its tables
BAR = "display:inline-block;height:.7em;border-radius:2px;background:rgba(96,125,230,.75);width:"
MAX_BAR = 9.0  # em, of a bar


def block(title: str, lines: Iterable[str], tables: Iterable[str], warning: str = "") -> str:
    """Return what a notebook shows of an object.

    Args:
        title: in bold.
        lines: of text, below it.
        tables: as `table` makes them.
        warning: in red; "" for none.
    """
    told = [f"<b>{escape(title)}</b>", *map(escape, lines)]
    if warning:
        told.append(f'<span style="color:#d9534f">{escape(warning)}</span>')
    return f'<div style="line-height:1.5">{"<br>".join(told)}{"".join(tables)}</div>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], shares: Sequence[float] = ()) -> str:
    """Return a table whose first column is text and whose others are numbers; `shares` (0…1) are drawn as bars."""
    made = [_row("th", headings, "")]
    for place, row in enumerate(rows):
        bar = f'<span style="{BAR}{max(MAX_BAR * shares[place], 0.1):.2f}em"></span>' if shares else ""
        made.append(_row("td", row, bar))
    style = "border-collapse:collapse;margin-top:.5em"
    return f'<table style="{style};{PLAIN}">{"".join(made)}</table>'


def _row(tag: str, cells: Sequence[str], bar: str) -> str:
    aligned = ["left", *["right"] * (len(cells) - 1)]
    made = [
        f'<{tag} style="{LINE};{CELL}{side}">{escape(cell)}</{tag}>' for side, cell in zip(aligned, cells, strict=True)
    ]
    return f'<tr style="{PLAIN}">{"".join(made)}<td style="{LINE};text-align:left">{bar}</td></tr>'
