"""What `size.py` measured, for people: a table of the smallest files that keep the accuracy, and curves."""

from __future__ import annotations

from typing import Any

from common import RESULTS, all_described

DROPS = (0.3, 0.5, 1.0)  # points of accuracy that may be lost
ORDER = (
    "float", "ZipNN", "integers + zstd", "k-means + zstd", "NNCodec", "v2q", "v4, no images", "v4, 1,024 images",
    "v4, retrained",
)  # fmt: skip
# Okabe and Ito's palette, which colour-blind readers can tell apart; ours are warm, the others cold or grey
COLOURS = {
    "integers + zstd": "#999999", "k-means + zstd": "#56b4e9", "NNCodec": "#0072b2", "v2q": "#f0c000",
    "v4, no images": "#e69f00", "v4, 1,024 images": "#d55e00", "v4, retrained": "#cc3377",
}  # fmt: skip
ACROSS = 3  # panels of a figure beside each other
SHOWN = 6.0  # points below the float network that a figure reaches down to
Rows = dict[str, dict[str, Any]]


def page(rows: Rows) -> list[str]:
    """Return the results page."""
    lines = [
        "# Bytes against accuracy, beside others",
        "",
        "CIFAR-10: accuracy on all 10,000 test images of the network read back, bytes of real",
        "files, one run a row (n = 1) unless a seed is named. Made by `make bench-size` (the docstring of",
        "benchmarks/size.py has the commands); peers.json has commit, machine and versions of each row. NNCodec",
        "2.1.3 has its defaults; palettes are k-means by layer, integers symmetric by output channel, both with",
        "zstd at 19; ZipNN loses nothing. Which setting of a method is taken is chosen on the test images, for",
        "all methods alike. *A point, found by itself* is `mess compress -v v4 --calibration cifar10` as it",
        "is: the rate is found on 4,096 training images after the 1,024, with labels; no test image has a say.",
        "",
        "![bytes against accuracy](peers.png)",
        "",
        "Fine-tuned from the public weights, and retrained: `mess train cifar10 -a resnet --layers N` with",
        "`--precision bf16`, `--mean`, `--std`, `--datapath` and",
        "",
        "    --ckpt PUBLIC --epochs 4 --lr 0.05 --schedule onecycle",
        "    --ckpt TUNED --epochs E --lr 0.005 -N -v v4 --rate-weight L [--teacher OTHER]",
        "",
        "*Fine-tuned again*: the same on another kind of processor, whose bfloat16 rounds otherwise. That gives other",
        "networks, which the same methods meet a second time.",
        "",
        "The ShuffleNetV2 (`-a shufflenetv2 --width-mult 0.5`) and the WideResNet (`-a wideresnet --layers 16",
        "--width-mult 2`) are from random weights, with `--epochs 6 --lr 0.2 --schedule onecycle --precision bf16`.",
        "",
    ]
    for network in networks(rows):
        lines += _smallest(network, of(rows, network))
    for network in networks(rows):
        lines += _everything(network, of(rows, network))
    return lines


def networks(rows: Rows) -> list[str]:
    """Return the networks that a float row is there of."""
    return [row["network"] for row in rows.values() if row["method"] == "float"]


def of(rows: Rows, network: str) -> list[dict[str, Any]]:
    """Return a network's rows by method, then bytes."""
    own = [row for row in rows.values() if row["network"] == network]
    return sorted(own, key=lambda row: (ORDER.index(row["method"]), row["bytes"]))


def smallest(own: list[dict[str, Any]], method: str, least: float) -> dict[str, Any] | None:
    """Return the smallest file of a method that has at least this accuracy."""
    good = [row for row in own if row["method"] == method and row["top1"] >= least - 1e-6]
    return min(good, key=lambda row: row["bytes"], default=None)


def _smallest(network: str, own: list[dict[str, Any]]) -> list[str]:
    whole = own[0]
    lines = [
        f"## {network}: {whole['top1']:.2f} %, {whole['bytes']:,} B as float",
        "",
        f"| at most … points lost | {' | '.join(f'{drop:g}' for drop in DROPS)} |",
        "|---|" + "---:|" * len(DROPS),
    ]
    for method in [m for m in ORDER[1:] if any(row["method"] == m for row in own)]:
        cells = []
        for drop in DROPS:
            row = smallest(own, method, whole["top1"] - drop)
            peer = smallest(own, "NNCodec", whole["top1"] - drop)
            share = f" ({row['bytes'] / peer['bytes']:.2f} ×)" if row and peer and method != "NNCodec" else ""
            cells.append(f"{row['bytes']:,}{share} → {row['top1']:.2f}" if row else "–")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, "", "Bytes, in brackets over NNCodec's, and what they score.", ""]


def _everything(network: str, own: list[dict[str, Any]]) -> list[str]:
    lines = [f"### {network}, every row", "", "| method | setting | bytes | top-1 % |", "|---|---|---:|---:|"]
    lines += [f"| {row['method']} | {row['setting']} | {row['bytes']:,} | {row['top1']:.2f} |" for row in own]
    return [*lines, "", *all_described(own), ""]


def draw(rows: Rows) -> None:
    """Draw a panel for each network into docs/results/peers.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = networks(rows)
    across = min(ACROSS, len(labels))
    down = -(-len(labels) // across)
    figure, axes = pyplot.subplots(
        down, across, figsize=(1.0 + 5.2 * across, 0.6 + 4.0 * down), layout="constrained", squeeze=False
    )
    for panel in axes.flat[len(labels) :]:
        panel.remove()
    for panel, network in zip(axes.flat, labels, strict=False):
        _panel(panel, network, of(rows, network))
    for row in axes:
        row[0].set_ylabel("top-1 %, all 10,000 test images")
    drawn = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in figure.axes]
    legend = {name: handle for panel in drawn for handle, name in panel}
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(RESULTS / "peers.png", dpi=110)
    pyplot.close(figure)


def _panel(panel: Any, network: str, own: list[dict[str, Any]]) -> None:
    whole = own[0]["top1"]
    panel.axhline(whole, color="#444444", linewidth=1, linestyle=":", label="float")
    for method, colour in COLOURS.items():
        points = [row for row in own if row["method"] == method]
        if not points:
            continue
        ours = method.startswith("v")
        panel.plot(
            [row["bytes"] / 1000 for row in points], [row["top1"] for row in points], label=method, color=colour,
            marker="o" if ours else "s", markersize=5 if ours else 4, linewidth=2 if ours else 1.2,
        )  # fmt: skip
    panel.set_xscale("log")
    seen = [row["bytes"] / 1000 for row in own if row["method"] in COLOURS and row["top1"] > whole - SHOWN]
    panel.set_xlim(min(seen) * 0.85, max(seen) * 1.15)
    panel.set_ylim(whole - SHOWN, whole + 1)
    ticks = [
        t for t in (20, 30, 50, 75, 100, 150, 200, 300, 500, 1000) if panel.get_xlim()[0] <= t <= panel.get_xlim()[1]
    ]
    panel.set_xticks(ticks, [f"{t}" for t in ticks])
    panel.minorticks_off()
    panel.set_xlabel("kB (logarithmic)")
    panel.set_title(network, loc="left", fontsize=11)
    panel.grid(color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
