"""A matplotlib figure as part of a page: vector graphics in the page's own letters and colours, light or dark."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from mess.report.colours import PALETTE
from mess.report.figures import write
from mess.report.html import Html, tag

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
VARIABLES = {shades[0]: f"var(--{name})" for name, shades in PALETTE.items()}
COLOUR = re.compile("|".join(VARIABLES))
FONT = re.compile(r"font: [^;\"]*?([0-9.]+)px[^;\"]*")


def inline_figure(figure: Figure, name: str, says: str) -> Html:
    """Return a figure as an ``<svg>`` element.

    Args:
        figure: drawn in the light colours of the palette.
        name: distinct within the page: the figure's ids start with it.
        says: what it shows, for those who cannot see it.
    """
    content = io.BytesIO()
    write(figure, content, "svg")
    root = ElementTree.fromstring(content.getvalue())  # noqa: S314 - what matplotlib has just written
    body = "".join(_markup(child, name) for child in root)
    return tag("svg", Html(body), viewBox=root.get("viewBox"), role="img", aria_label=says, class_="figure")


def _markup(element: ElementTree.Element, name: str) -> str:
    """Return an element without namespaces, with colours as variables; without metadata, and styles that would leak."""
    kind = element.tag.removeprefix(SVG)
    if kind in ("metadata", "style"):
        return ""
    attributes = {}
    for key, value in element.attrib.items():
        key = key.removeprefix(XLINK)
        if key.startswith("{"):
            continue
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href":
            value = f"#{name}-{value.removeprefix('#')}"
        elif key in ("style", "clip-path"):
            value = COLOUR.sub(lambda found: VARIABLES[found[0]], FONT.sub(r"font-size: \1px", value))
            value = value.replace("url(#", f"url(#{name}-")
        attributes[key] = value
    text = (element.text or "").strip()
    return tag(kind, text or None, Html("".join(_markup(child, name) for child in element)), **attributes)
