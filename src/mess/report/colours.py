"""The colours of reports: Okabe and Ito's, told apart by colour-blind people too, in a light and a dark shade.

Figures are drawn in the light shades; the page replaces these by variables, whose dark shades it takes where the
reader's system is dark.
"""

from __future__ import annotations

# name -> (light, dark)
PALETTE = {
    "page": ("#f7f7f4", "#13151a"),
    "panel": ("#fefefd", "#1b1e25"),
    "ink": ("#1c2027", "#e8eaee"),
    "muted": ("#5b6472", "#a3abb9"),
    "line": ("#e1e3e7", "#323843"),
    "blue": ("#0072b2", "#4da6e0"),
    "orange": ("#d55e00", "#f28f4f"),
    "green": ("#009e73", "#36c79d"),
    "purple": ("#aa4f8d", "#d98fc3"),
    "sky": ("#56b4e9", "#9ad6f7"),
    "yellow": ("#d39e00", "#ecc94b"),
    "grey": ("#8b929e", "#7d8593"),
    "negative": ("#2c6db5", "#5fa9ef"),
    "positive": ("#c4432b", "#ff8a70"),
}
SERIES = ("blue", "orange", "green", "purple", "yellow", "sky", "grey")
OF_SECTION = {
    "indices": "blue", "scales": "orange", "offsets": "green", "references": "purple", "expansions": "blue",
    "tensors": "sky", "batch norms": "yellow", "header": "grey", "manifest": "grey",
    "graph": "grey",
}  # fmt: skip


def light(name: str) -> str:
    """Return a colour as figures draw it."""
    return PALETTE[name][0]


def variables(shade: int) -> str:
    """Return CSS custom properties: of the light shade (0) or the dark one (1)."""
    return "".join(f"--{name}:{shades[shade]};" for name, shades in PALETTE.items())


def series(place: int) -> str:
    """Return the name of the colour of the first, second … of things drawn together."""
    return SERIES[place % len(SERIES)]
