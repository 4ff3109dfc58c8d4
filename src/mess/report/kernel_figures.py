"""Figures of kernels: references by use, the terms of sums, and kernels before and after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mess.report.colours import light
from mess.report.facts import MAGNITUDES, Book, WorstKernel
from mess.report.figures import STYLE, drawing

ACROSS = 16  # references a row
MOST = 128  # references drawn; more of them are too small to see
SIGNED = LinearSegmentedColormap.from_list("signed", [light("negative"), "#ffffff", light("positive")])
SHADES = LinearSegmentedColormap.from_list("magnitude", ["#e4e7ec", light("blue"), "#06263d"])


def as_picture(unit_U: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """Lay a unit out as its kernels side by side, or as one row where it is no kernels."""
    if len(kernel) != 2:
        return unit_U.reshape(1, -1)
    return np.concatenate(list(unit_U.reshape(-1, *kernel)), axis=1)


def references(book: Book, title: str) -> Figure:
    """Draw references as pictures, the most used first, each with the number of units that point to it."""
    order = book.order[:MOST]
    across = min(ACROSS, max(1, len(order)))
    rows = -(-len(order) // across)
    with rc_context(STYLE):
        wide = as_picture(book.refs_KU[0], book.kernel).shape
        figure = Figure(
            figsize=(0.62 * across, 0.5 + rows * (0.28 + 0.55 * min(1.0, wide[0] / wide[1]))), layout="constrained"
        )
        note = "" if len(order) == len(book.refs_KU) else f", {len(order)} of {len(book.refs_KU)}"
        figure.suptitle(f"{title}{note}", x=0.01, ha="left", fontsize=10, color=light("ink"))
        for place, reference in enumerate(order):
            axes = figure.add_subplot(rows, across, place + 1)
            draw_kernel(axes, as_picture(book.refs_KU[reference], book.kernel))
            if book.uses_K is not None:
                axes.set_title(f"{book.uses_K[reference]:,}", fontsize=6.5, pad=2, loc="center", color=light("muted"))
    return figure


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
    """Draw kernels before, after, and their difference, on one scale each."""
    with rc_context(STYLE):
        figure = Figure(figsize=(0.72 * len(worst) + 0.6, 2.9), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=light("ink"))
        for column, kernel in enumerate(worst):
            most = float(np.abs(kernel.before).max())
            pictures = (kernel.before, kernel.after, kernel.after - kernel.before)
            for row, (picture, name) in enumerate(zip(pictures, ("before", "after", "change"), strict=True)):
                axes = figure.add_subplot(3, len(worst), row * len(worst) + column + 1)
                draw_kernel(axes, picture, most)
                if not column:
                    axes.set_ylabel(name, fontsize=8, color=light("muted"))
                if not row:
                    axes.set_title(f"{kernel.error:.0%}", fontsize=7.5, pad=2, loc="center", color=light("muted"))
    return figure


def draw_kernel(axes: Axes, picture: np.ndarray, most: float | None = None) -> None:
    """Draw numbers as squares: blue below 0, red above, white at 0."""
    scale = most or float(np.abs(picture).max()) or 1.0
    axes.imshow(picture, cmap=SIGNED, vmin=-scale, vmax=scale)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
