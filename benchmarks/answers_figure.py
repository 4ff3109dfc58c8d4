"""Bytes against what is lost: a colour a method, a panel a network, letters that survive a width of 400 pixels."""

from __future__ import annotations

from typing import Any

from answers_rows import OURS, Row, Rows, allowed, loss, measure, networks, of
from common import RESULTS

WIDE = 6  # times the smallest file, from which on fewer ticks have room
ACROSS = 2  # panels beside each other
SHOWN = {"drop": (-0.3, 3.0), "agreement": (0.0, 15.0)}  # losses that a panel shows; squared errors have none
TITLES = {"drop": "points lost", "agreement": "% of answers changed"}
# Okabe and Ito's palette, which colour-blind readers can tell apart; ours are warm, the others cold or grey
COLOURS = {
    "integers + zstd": ("#8c8c8c", "s"), "k-means + zstd": ("#56b4e9", "^"), "NNCodec": ("#3f8fd2", "o"),
    "v4, no images": ("#e69f00", "o"), "v4, 128 images": ("#d55e00", "o"), "v4, 1,024 images": ("#d55e00", "o"),
    "v4, retrained": ("#cc79a7", "*"),
}  # fmt: skip
NAMES = {"v4, 128 images": "v4, images", "v4, 1,024 images": "v4, images"}
THEMES = {  # name of the file → background, text, grid
    "answers": ("#ffffff", "#1f2328", "#e4e4e4"),
    "answers-dark": ("#0d1117", "#e6edf3", "#30363d"),
}


def draw(rows: Rows) -> None:
    """Draw docs/results/answers.png and answers-dark.png, a panel for each network with a test set of classes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {name: of(rows, name) for name in networks(rows)}
    shown = {name: own for name, own in shown.items() if measure(own[0]) in SHOWN and _drawn(own)}
    if not shown:
        return
    down = -(-len(shown) // ACROSS)
    for file, (background, text, grid) in THEMES.items():
        colours = {
            "figure.facecolor": background, "axes.facecolor": background, "grid.color": grid, "axes.edgecolor": text,
            **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), text),
        }  # fmt: skip
        with pyplot.rc_context({"font.size": 17, **colours}):
            figure, axes = pyplot.subplots(
                down, ACROSS, figsize=(4.9 * ACROSS, 1.1 + 3.6 * down), layout="constrained", squeeze=False
            )
            for panel in axes.flat[len(shown) :]:
                panel.remove()
            for panel, (network, own) in zip(axes.flat, shown.items(), strict=False):
                _panel(panel, network, own, text)
            drawn = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in figure.axes]
            legend = {name: handle for panel in drawn for handle, name in panel}
            figure.legend(legend.values(), legend, loc="outside lower center", ncols=ACROSS, frameon=False)
            figure.savefig(RESULTS / f"{file}.png", dpi=85, metadata={"Software": None})
            pyplot.close(figure)


def _drawn(own: list[Row]) -> list[Row]:
    high = SHOWN[measure(own[0])][1]
    return [row for row in own if row["method"] in COLOURS and loss(row, own[0]) <= high]


def _panel(panel: Any, network: str, own: list[Row], text: str) -> None:
    low, high = SHOWN[measure(own[0])]
    panel.axhline(allowed(measure(own[0])), color=text, linewidth=1, linestyle=":")
    for method, (colour, marker) in COLOURS.items():
        points = [(row["bytes"] / 1000, loss(row, own[0])) for row in own if row["method"] == method]
        if points:
            panel.plot(
                *zip(*points, strict=True), label=NAMES.get(method, method), color=colour, marker=marker,
                markersize=14 if marker == "*" else 7, linewidth=2.6 if method in OURS else 1.5,
            )  # fmt: skip
    seen = [row["bytes"] / 1000 for row in _drawn(own)]
    panel.set_xscale("log")
    panel.set_ylim(high, low)  # the better the higher
    mantissas = (1, 1.5, 2, 3, 5, 7) if max(seen) < WIDE * min(seen) else (1, 2, 5)  # or numbers would touch
    ticks = [mantissa * 10**power for power in range(5) for mantissa in mantissas]
    panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    panel.set_xlim(min(seen) * 0.85, max(seen) * 1.15)
    panel.minorticks_off()
    panel.set_xlabel("kB")
    panel.set_ylabel(TITLES[measure(own[0])])
    panel.set_title(network, loc="left", fontsize=18)
    panel.grid(linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
