"""Figures, each a function from facts to a matplotlib figure; nothing here knows of files or pages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mess.codec.rows import NAME_OF_SECTION, Row
from mess.report.colours import OF_SECTION, light, series
from mess.report.results import FLOAT, Measured
from mess.report.runs import RunFacts

SIZE = (4.3, 2.7)  # inches: as wide as a telephone shows without making letters small
TAIL = 0.02  # of the numbers of a histogram, at either end: α has a few that would make all others one bar
REACH = 15.0  # points of accuracy below the float network that are drawn
STYLE: dict[Any, Any] = {  # keys of matplotlib's rcParams
    "axes.edgecolor": light("line"), "axes.labelcolor": light("muted"), "axes.spines.right": False,
    "axes.spines.top": False, "axes.grid": True, "axes.axisbelow": True, "axes.titlesize": 9, "axes.labelsize": 8.5,
    "axes.titlelocation": "left", "axes.titlecolor": light("ink"), "grid.color": light("line"), "grid.linewidth": 0.7,
    "font.size": 8.5, "legend.frameon": False, "legend.fontsize": 8.5, "lines.linewidth": 1.6, "svg.fonttype": "none",
    "svg.hashsalt": "mess", "text.parse_math": False,
    "text.color": light("ink"), "xtick.color": light("muted"), "ytick.color": light("muted"),
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0,
    "ytick.minor.size": 0, "figure.facecolor": "none", "axes.facecolor": "none",
}  # fmt: skip


@contextmanager
def drawing(size: tuple[float, float] = SIZE) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure with one pair of axes, in the style of all of them."""
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        yield figure, axes


def write(figure: Figure, file: IO[bytes], ending: str, **how: Any) -> None:
    """Write a figure as "png" or "svg"; the same figure gives the same bytes.

    A name in letters that the font lacks is no reason to say anything: an SVG is drawn in the reader's own fonts.
    """
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type")) if ending == "svg" else None
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format=ending, metadata=metadata, **how)


def curves(runs: Sequence[RunFacts], columns: Mapping[str, str], label: str, *, log: bool = False) -> Figure:
    """Draw columns of the logs over epochs.

    Args:
        runs: one colour each.
        columns: column → how it is called; the first is drawn whole, the second dotted.
        label: what the numbers are.
        log: on a logarithmic axis.
    """
    with drawing() as (figure, axes):
        for place, run in enumerate(runs):
            for (column, called), style in zip(columns.items(), ("-", ":"), strict=False):
                name = called if len(runs) == 1 else f"{run.name} {called}".strip() if style == "-" else None
                colour = light(series(place if len(runs) > 1 else ("-", ":").index(style)))
                marker = "o" if len(run.columns["epoch"]) < 3 else None
                axes.plot(
                    run.columns["epoch"], run.columns[column], style, color=colour, label=name, marker=marker, ms=4
                )
        if len(runs) > 1 and len(columns) > 1:
            label += f" (dotted: {list(columns.values())[1]})"
        _finish_curves(axes, label, len(runs), len(columns), log=log)
    return figure


def sizes_by_epoch(runs: Sequence[RunFacts]) -> Figure:
    """Draw bytes of the files that epochs have left."""
    with drawing() as (figure, axes):
        for place, run in enumerate(runs):
            if run.sizes:
                axes.plot(
                    list(run.sizes), list(run.sizes.values()), "-o", ms=3.5, color=light(series(place)), label=run.name
                )
        axes.set_ylim(0, 1.15 * max(max(run.sizes.values(), default=0) for run in runs))
        axes.yaxis.set_major_formatter(FuncFormatter(short_bytes))
        _finish_curves(axes, "bytes of the .mess file", len(runs))
    return figure


def _finish_curves(axes: Axes, label: str, runs: int, columns: int = 1, *, log: bool = False) -> None:
    axes.set_xlabel("epoch")
    axes.set_title(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if log:
        _make_logarithmic(axes, axes.yaxis, plain_number)
    if runs > 1:  # names of runs are long: below, where no curve is
        axes.figure.legend(loc="outside lower left", handlelength=1.4, labelcolor=light("muted"))
    elif columns > 1:
        axes.legend(handlelength=1.4, labelcolor=light("muted"))


def size_accuracy(rows: Sequence[Measured], files: Mapping[str, tuple[int, float | None]]) -> Figure:
    """Draw accuracy over bytes, a line for each method, and where the files of the report are.

    Args:
        rows: of one network; see `within_reach`.
        files: name → bytes and, where it was measured, accuracy in percent.
    """
    shown = within_reach(rows)
    with drawing((SIZE[0], 3.7)) as (figure, axes):
        whole = next((row for row in shown if row.method == FLOAT), None)
        if whole is not None:
            axes.axhline(whole.top1, color=light("grey"), lw=1, ls="--", label=f"float, {whole.bytes:,} B")
        methods = list(dict.fromkeys(row.method for row in shown if row.method != FLOAT))
        for place, method in enumerate(methods):
            own = [row for row in shown if row.method == method]
            line = "-" if len(own) > 1 else ""
            marker = "osD^vP*X"[place % 8]
            axes.plot(
                [row.bytes for row in own], [row.top1 for row in own], linestyle=line, marker=marker, ms=4.5, lw=1.1,
                color=light(series(place)), label=method,
            )  # fmt: skip
        for name, (count, top1) in files.items():
            if top1 is None:
                axes.axvline(count, color=light("ink"), lw=1, ls=":")
                axes.annotate(
                    name, (count, 0.02), xytext=(-2, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", rotation=90, fontsize=7.5, ha="right", va="bottom", color=light("ink"),
                )  # fmt: skip
            else:
                axes.plot([count], [top1], "*", ms=13, color=light("ink"), label=name)
        _make_logarithmic(axes, axes.xaxis, short_bytes)
        axes.set_xlabel("bytes of the file")
        axes.set_title("test accuracy, %")
        figure.legend(loc="outside lower left", ncols=3, handlelength=1.4, columnspacing=1.2, labelcolor=light("muted"))
    return figure


def within_reach(rows: Sequence[Measured]) -> list[Measured]:
    """Return the rows that a figure of accuracy shows: those near the best, or all where these are few."""
    best = max((row.top1 for row in rows if row.method == FLOAT), default=max(row.top1 for row in rows))
    near = [row for row in rows if row.top1 >= best - REACH]
    return near if len(near) > len(rows) / 3 else list(rows)


def histogram(values_N: np.ndarray, label: str, colour: str) -> Figure:
    """Draw how often numbers come up; a `TAIL` of them at either end is counted in the last bars."""
    low, high = (float(edge) for edge in np.quantile(values_N, (TAIL, 1 - TAIL)))
    if low == high:
        low, high = low - 0.5, high + 0.5
    with drawing() as (figure, axes):
        counts, edges = np.histogram(np.clip(values_N, low, high), bins=61, range=(low, high))
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=light(colour), linewidth=0)
        axes.axvline(0, color=light("muted"), lw=0.8)
        axes.set_title(label)
        axes.set_ylabel("units")
        _plain_counts(axes)
    return figure


def uses(uses_K: np.ndarray, label: str) -> Figure:
    """Draw how many units point to each reference, the most used first."""
    with drawing() as (figure, axes):
        axes.bar(np.arange(1, len(uses_K) + 1), np.sort(uses_K)[::-1], width=0.9, color=light("blue"), linewidth=0)
        axes.axhline(float(uses_K.mean()), color=light("orange"), lw=1, ls="--")
        axes.annotate(
            f"mean {uses_K.mean():,.0f}", (1, float(uses_K.mean())), xycoords=("axes fraction", "data"), ha="right",
            va="bottom", color=light("orange"), fontsize=8,
        )  # fmt: skip
        axes.set_title(label)
        axes.set_xlabel("reference, the most used first")
        axes.set_ylabel("units")
        axes.margins(x=0.01)
        _plain_counts(axes)
    return figure


def by_layer(values: Mapping[str, float], label: str, colour: str, *, percent: bool = False) -> Figure:
    """Draw a number for each layer, in the file's order; those below a thousandth of the largest are left out."""
    numbers = np.array(list(values.values()))
    places = np.flatnonzero(numbers > 0)
    with drawing() as (figure, axes):
        scale = 100.0 if percent else 1.0
        if len(places):
            axes.bar(places + 1, numbers[places] * scale, width=0.8, color=light(colour), lw=0)
            highest, lowest = float(numbers.max()) * scale, float(numbers[places].min()) * scale
            axes.set_ylim(max(highest / 1e3, lowest / 2), highest * 1.5)
            _make_logarithmic(axes, axes.yaxis, plain_percent if percent else plain_number)
        axes.set_title(label)
        axes.set_xlabel("layer of weights, in the file's order")
        axes.set_xlim(0.4, len(numbers) + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    return figure


def bytes_by_layer(rows: Sequence[Row]) -> Figure:
    """Draw the bytes of each row, in the colours of the sections."""
    with drawing((7, 0.9 + 0.21 * len(rows))) as (figure, axes):
        stacked_bars(axes, [row.name for row in rows], [row.parts for row in rows])
        axes.xaxis.set_major_formatter(FuncFormatter(short_bytes))
        axes.set_xlabel("bytes")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, handlelength=1, labelcolor=light("muted"))
    return figure


def stacked_bars(axes: Axes, names: Sequence[str], parts: Sequence[Mapping[str, int]]) -> None:
    """Draw one bar a row, cut into its sections."""
    left = np.zeros(len(names))
    for section in [s for s in OF_SECTION if any(s in part for part in parts)]:
        widths = np.array([part.get(section, 0) for part in parts], dtype=float)
        axes.barh(
            np.arange(len(names)), widths, left=left, height=0.75, color=light(OF_SECTION[section]), linewidth=0,
            label=NAME_OF_SECTION[section],
        )  # fmt: skip
        left += widths
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.01)


def short_bytes(value: float, _place: object = None) -> str:
    """Return bytes as an axis says them: 80 kB, 1.5 MB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _make_logarithmic(axes: Axes, axis: Axis, say: Callable[[float, object], str]) -> None:
    """Make an axis logarithmic, with round numbers on it; one whose numbers are near one another stays as it is."""
    across, data = axis is axes.xaxis, axes.dataLim
    low, high = (data.minposx, data.x1) if across else (data.minposy, data.y1)
    if 3 * low < high:
        (axes.set_xscale if across else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(say))


def plain_number(value: float, _place: object = None) -> str:
    """Return a number as an axis says it: no powers, as few digits as it takes."""
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.0e}"


def plain_percent(value: float, _place: object = None) -> str:
    """Return percent as an axis says them."""
    return f"{plain_number(value)}%"


def _plain_counts(axes: Axes) -> None:
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
