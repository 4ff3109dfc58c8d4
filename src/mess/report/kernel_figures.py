"""Figures of kernels: references by use, the terms of sums, and kernels before and after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mess.report.colours import light
from mess.report.facts import MAGNITUDES, Book, WorstKernel
from mess.report.figures import drawing

ACROSS = 16  # references a row
GAP, LABEL = 0.25, 0.4  # between pictures, and room for a label, in widths of a picture
MAX_DRAWN = 128  # references drawn; more of them are too small to see
SIGNS = "red: above 0, blue: below"
SIGNED = LinearSegmentedColormap.from_list("signed", [light("negative"), "#ffffff", light("positive")])
SHADES = LinearSegmentedColormap.from_list("magnitude", ["#e4e7ec", light("blue"), "#06263d"])


def as_picture(unit_U: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """Lay a unit out as its kernels side by side, or as one row where it is no kernels."""
    if len(kernel) != 2:
        return unit_U.reshape(1, -1)
    return np.concatenate(list(unit_U.reshape(-1, *kernel)), axis=1)


def references(book: Book, title: str) -> Figure:
    """Draw references as pictures, the most used first, each with the number of units that point to it."""
    order = book.order[:MAX_DRAWN].tolist()
    labels = ["" if book.uses_K is None else f"{book.uses_K[k]:,}" for k in order]
    note = "" if len(order) == len(book.refs_KU) else f", {len(order)} of {len(book.refs_KU)}"
    pictures = [as_picture(book.refs_KU[k], book.kernel) for k in order]
    across = max(2, ACROSS * 3 // max(3, pictures[0].shape[1]))
    legend = f"{SIGNS}; the most used first, under each the number of units stored by it"
    return _mosaic(pictures, labels, f"{title}{note}", across, SIGNS if book.uses_K is None else legend)


def draw_references(refs_KU: np.ndarray, uses_K: np.ndarray, path: str | os.PathLike[str], *, title: str) -> None:
    """Write a PNG of 3x3 references (K, 9·d) in the order of their use (K,)."""
    book = Book((3, 3) if refs_KU.shape[1] % 9 == 0 else (), refs_KU, uses_K)
    references(book, title).savefig(path, dpi=130, facecolor="white")


def terms(book: Book, title: str) -> Figure:
    """Draw what share of each term's integers is 0, 1, 2 …."""
    counts_TM = np.zeros((0, len(MAGNITUDES))) if book.terms_TM is None else book.terms_TM
    share_TM = counts_TM / np.maximum(counts_TM.sum(1, keepdims=True), 1)
    with drawing((5.2, 0.9 + 0.24 * len(share_TM))) as (figure, axes):
        left = np.zeros(len(share_TM))
        for place, label in enumerate(magnitude_names()):
            colour = SHADES(place / (len(MAGNITUDES) - 1))
            axes.barh(np.arange(len(share_TM)), share_TM[:, place], left=left, height=0.8, color=colour, label=label)
            left += share_TM[:, place]
        axes.set_yticks(np.arange(len(share_TM)), [f"term {t + 1}" for t in range(len(share_TM))])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid(visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=light("ink"))
        figure.legend(loc="outside lower left", ncols=6, handlelength=1, title="magnitude", labelcolor=light("muted"))
    return figure


def magnitude_names() -> list[str]:
    """Return what the classes of magnitudes are called: 0, 1, 2, 3–4, 5–8, ≥ 9."""
    names = [str(low) if low == end - 1 else f"{low}–{end - 1}" for low, end in pairwise(MAGNITUDES)]
    return [*names, f"≥ {MAGNITUDES[-1]}"]


def worst_kernels(worst: Sequence[WorstKernel], title: str) -> Figure:
    """Draw kernels before and after, and the change, each column on the scale of its kernel before."""
    pictures, labels = [], []
    for name in ("before", "after", "change"):
        for kernel in worst:
            picture = {"before": kernel.before, "after": kernel.after, "change": kernel.after - kernel.before}[name]
            pictures.append(picture / (float(np.abs(kernel.before).max()) or 1.0))
            labels.append(f"{name} {kernel.error:.0%}" if name == "change" else name)
    return _mosaic(pictures, labels, title, len(worst), f"{SIGNS}; the largest of a kernel is full", scaled=True)


def _mosaic(
    pictures: Sequence[np.ndarray],
    labels: Sequence[str],
    title: str,
    across: int,
    legend: str,
    *,
    scaled: bool = False,
) -> Figure:
    """Draw pictures of one size in rows of `across`, each above its label, and under all what they mean.

    Args:
        scaled: numbers are shares of full colour already; else each picture's largest is full.
    """
    height, width = (max(picture.shape[side] for picture in pictures) for side in (0, 1))
    across = min(across, len(pictures))
    rows = -(-len(pictures) // across)
    high, wide = height + LABEL * max(width, 3), width + GAP * max(width, 3)
    inches = min(1.5, 0.6 * max(1.0, width / 3)) / width  # of one number
    with drawing((max(4.0, across * wide * inches), rows * high * inches + 0.5)) as (figure, axes):
        for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            left, top = (place % across) * wide, (place // across) * high
            most = 1.0 if scaled else float(np.abs(picture).max()) or 1.0
            edges = (left, left + picture.shape[1], top + picture.shape[0], top)
            axes.imshow(picture / most, cmap=SIGNED, vmin=-1, vmax=1, extent=edges)
            middle = left + picture.shape[1] / 2
            axes.text(middle, top + height + 0.12, label, ha="center", va="top", fontsize=6.5, color=light("muted"))
        axes.set_xlim(-0.1, across * wide)
        axes.set_ylim(rows * high, -0.1)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
        figure.supxlabel(legend, x=0.01, ha="left", fontsize=7, color=light("muted"))
    return figure
