"""Figures of what a `.mess` file holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

ACROSS = 12  # references a row
MOST = 96  # references drawn; more of them are too small to see


def draw_references(refs_KU: np.ndarray, uses_K: np.ndarray, path: str | os.PathLike[str], *, title: str) -> None:
    """Draw references as pictures in the order of their use, above how often each is used.

    Args:
        refs_KU: references, K of U numbers; a unit of d kernels of 3x3 is drawn as d squares side by side.
        uses_K: how many units each reference stands for.
        path: where the PNG goes.
        title: one line, said above the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = np.argsort(-uses_K, kind="stable")
    shown = order[:MOST]
    rows = -(-len(shown) // ACROSS)
    figure = pyplot.figure(figsize=(10, 2.6 + 0.95 * rows), layout="constrained")
    pictures, counts = np.asarray(figure.subfigures(2, 1, height_ratios=[0.95 * rows + 0.3, 2.3])).ravel()
    note = "" if len(order) == len(shown) else f", the {len(shown)} most used of {len(order)}"
    pictures.suptitle(f"{title}{note}", x=0.01, ha="left", fontsize=11)
    for place in range(rows * ACROSS):
        axes = pictures.add_subplot(rows, ACROSS, place + 1)
        axes.set_axis_off()
        if place >= len(shown):
            continue
        picture = as_picture(refs_KU[shown[place]])
        most = float(np.abs(picture).max()) or 1.0
        axes.imshow(picture, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set_title(f"{uses_K[shown[place]]:,}", fontsize=7, pad=2)
    axes = counts.add_subplot()
    axes.bar(np.arange(len(order)), uses_K[order], width=0.9, color="#31688e")
    axes.set_xlabel("reference, most used first")
    axes.set_ylabel("units that point to it")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    figure.savefig(Path(path), dpi=130)
    pyplot.close(figure)


def as_picture(unit_U: np.ndarray) -> np.ndarray:
    """Lay a unit out as kernels side by side: squares where its length allows, else one row."""
    side = next((s for s in (3, 5, 2, 4, 7) if unit_U.size % (s * s) == 0), 0)
    if not side:
        return unit_U.reshape(1, -1)
    return np.concatenate(list(unit_U.reshape(-1, side, side)), axis=1)
