"""Kernels as small pictures of a page, in colours that follow the reader's light or dark."""

from __future__ import annotations

import numpy as np

from mess.report.html import Html, tag

GAP = 0.35  # between the kernels of a unit, in squares


def kernel_picture(unit_U: np.ndarray, kernel: tuple[int, ...], most: float | None = None, says: str = "") -> Html:
    """Return a unit as squares, red above 0 and blue below, as strong as the number is large.

    Args:
        unit_U: its numbers.
        kernel: sides of one kernel; () draws a row.
        most: the magnitude that is drawn full; None: the unit's largest.
        says: what it is, for those who cannot see it.
    """
    height, width = kernel if len(kernel) == 2 else (1, unit_U.size)
    kernels_DHW = unit_U.reshape(-1, height, width)
    scale = most or float(np.abs(unit_U).max(initial=0.0)) or 1.0
    squares = []
    for place, kernel_HW in enumerate(kernels_DHW):
        left = place * (width + GAP)
        for (y, x), value in np.ndenumerate(kernel_HW):
            strength = min(1.0, abs(float(value)) / scale)
            squares.append(
                f'<rect class="{"p" if value > 0 else "n"}" x="{left + x:g}" y="{y}" width="1" height="1" '
                f'opacity="{strength:.2f}"/>'
            )
    across = len(kernels_DHW) * (width + GAP) - GAP
    return tag("svg", Html("".join(squares)), viewBox=f"0 0 {across:g} {height}", class_="kernel", role="img",
               aria_label=says, shape_rendering="crispEdges")  # fmt: skip
