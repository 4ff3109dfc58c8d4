"""HTML that cannot break: text is escaped unless it was made here. Names in files are anybody's."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = {"br", "meta", "hr"}
NUMBERS = ("bytes", "smaller", "share", "bits a weight", "error", "top-1 %")  # headings of columns


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: `Html` as it is, None left out, lists one after another, all else as escaped text.
        attributes: `class_` is class, `data_bytes` is data-bytes; None and False are left out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(*children)}</{name}>")


def table(headings: Iterable[str], rows: list[Html], class_: str | None = None) -> Html:
    """Return a table, its columns of numbers to the right."""
    cells = [tag("th", heading, class_="r" if heading in NUMBERS else None) for heading in headings]
    return tag("table", tag("thead", tag("tr", cells)), tag("tbody", rows), class_=class_)


def joined(*children: object) -> Html:
    """Return children one after another; see `tag`."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, list):
            out.append(joined(*child))
        else:
            out.append(child if isinstance(child, Html) else escape(str(child)))
    return Html("".join(out))
