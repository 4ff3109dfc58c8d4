"""What `answers.py` measured, for people: every network's smallest good files, what others publish, and all rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from common import all_described

DROP = 0.3  # points of accuracy that may be lost, on test sets of thousands of pictures
AGREEMENT = 96.5  # percent of answers that stay, on test sets of hundreds
ERROR = 0.01  # relative squared error of outputs that are no class scores
FEW = 1000  # pictures, below which accuracy is too coarse to be a measure
DEFAULT = "as it comes"
WHOLE_AGREEMENT = 99.0  # percent: what the default has to keep, or else lose no more than DROP
ORDER = (
    "float", "ZipNN", "integers + zstd", "k-means + zstd", "NNCodec",
    "v4, no images", "v4, 128 images", "v4, 1,024 images", "v4, retrained",
)  # fmt: skip
OURS = ORDER[5:]
GOALS = {  # (measure, method) → bytes over NNCodec's
    ("drop", "v4, 1,024 images"): 0.40,
    ("agreement", "v4, no images"): 0.70,
    ("agreement", "v4, 128 images"): 0.50,
}
TRAINED_GOALS = (  # networks, bytes at most, top-1 % at least
    (("ResNet-20",), 32_000, 91.2),
    (("ResNet-56",), 85_000, 92.9),
    (("WRN-16-4",), 110_000, 93.5),
    (("ResNet-20", "ResNet-56", "WRN-16-4"), 50_000, 92.5),
)
Row = dict[str, Any]
Rows = dict[str, Row]


def networks(rows: Rows) -> list[str]:
    """Return the networks of this page that a float row is there of, the small test sets after the large ones."""
    compared = {row["network"] for row in rows.values() if row["method"] in ORDER[1:]}
    floats = [row for row in rows.values() if row["method"] == "float" and row["network"] in compared]
    kinds = ("drop", "agreement", "error")
    return [row["network"] for row in sorted(floats, key=lambda row: (kinds.index(measure(row)), row["bytes"]))]


def all_of(rows: Rows, network: str) -> list[Row]:
    """Return a network's rows by method, then bytes; the float network's comes first."""
    own = [row for row in rows.values() if row["network"] == network and row["method"] in ORDER]
    return sorted(own, key=lambda row: (ORDER.index(row["method"]), row["bytes"]))


def of(rows: Rows, network: str) -> list[Row]:
    """Return those of the first seed: no table or figure chooses among seeds."""
    return [row for row in all_of(rows, network) if not row.get("seed")]


def measure(row: Row) -> str:
    """Return what tells how good a row's network is: "drop", "agreement" or "error"."""
    if "error" in row:
        return "error"
    return "drop" if row["pictures"] >= FEW else "agreement"


def loss(row: Row, whole: Row) -> float:
    """Return a row's loss by its measure: points, percent of answers that changed, or squared error."""
    kind = measure(row)
    if kind == "error":
        return row["error"]
    return round(whole["top1"] - row["top1"] if kind == "drop" else 100 - row["agreement"], 2)


def allowed(kind: str) -> float:
    """Return the loss up to which a file is good enough for the main table."""
    return {"drop": DROP, "agreement": 100 - AGREEMENT, "error": ERROR}[kind]


def smallest(own: list[Row], method: str, most: float) -> Row | None:
    """Return the smallest file of a method that loses at most so much."""
    good = [row for row in own if row["method"] == method and loss(row, own[0]) <= most + 1e-9]
    return min(good, key=lambda row: row["bytes"], default=None)


def pair(own: list[Row], method: str) -> tuple[Row | None, Row | None]:
    """Return our smallest good file, and NNCodec's smallest that is as good.

    As good is: at most `DROP` points lost, as ours; where a share of few hundred answers is counted, or an error
    measured, no worse than ours is.
    """
    kind = measure(own[0])
    ours = smallest(own, method, allowed(kind))
    most = allowed(kind) if ours is None or kind == "drop" else loss(ours, own[0])
    return ours, smallest(own, "NNCodec", most)


def at_equal(own: list[Row], row: Row) -> float | None:
    """Return a file's bytes over NNCodec's at the same divergence (or error), between its files on logarithmic axes."""
    name = "error" if "error" in row else "divergence"
    if not row[name]:
        return None
    curve = sorted((peer[name], peer["bytes"]) for peer in own if peer["method"] == "NNCodec" and peer[name])
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 <= row[name] <= x1 and x0 < x1:
            share = math.log(row[name] / x0) / math.log(x1 / x0)
            return row["bytes"] / math.exp(math.log(y0) + share * math.log(y1 / y0))
    return None


def page(rows: Rows, published: list[Row], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the page, with what others publish, and the rows by network that are not measured."""
    return [
        "# Accuracy and bytes",
        "",
        "`make bench-results`: every network is stored by every method, read back from its file, and asked beside the",
        "float network, on pictures that nothing has looked at. Bytes are those of real files.",
        "v4 is `mess.compress(network, file)`, with `calibration=` so many training pictures without labels, or none;",
        "nothing is retrained except where a row says so. NNCodec 2.1.3 (ISO/IEC 15938-17) has its defaults; integers",
        "are symmetric with a step an output channel, k-means has colours for each layer, both then zstd at 19; ZipNN",
        "loses nothing.",
        "",
        "- ResNets and WRN: the 10,000 test pictures of CIFAR-10, true pixels; CIFAR-100's where a network is of that.",
        "- MobileNetV2 (torchvision's weights) and EfficientNet-Lite0 (its convolutions pad by themselves): 266 real",
        "  ImageNet pictures; the pictures to calibrate on are another 266. Both networks score better on them than on",
        "  ImageNet's test set, so only what changes counts: the share of answers that stay (*agreement*).",
        "- P-, R- and O-Net, the three networks of MTCNN, put out tuples: crops of the same pictures, and the squared",
        "  error over the variance of each output.",
        "",
        "*Divergence* is the mean of KL(float‖stored) in nats. Every row is of one seed, n = 1, of seed 0 where none",
        "is named; the versions before v4 have [a page of their own](schemes.md).",
        "",
        "<picture>",
        '<source media="(prefers-color-scheme: dark)" srcset="answers-dark.png">',
        '<img src="answers.png" alt="bytes against what is lost, a panel a network">',
        "</picture>",
        "",
        *_main(rows),
        *_trained(rows),
        *_seeds(rows),
        *_defaults(rows),
        *_published(rows, published),
        *_knob(rows),
        *_left_out(left_out),
        *(line for network in networks(rows) for line in _everything(network, all_of(rows, network))),
    ]


def _left_out(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [
        "## Not measured",
        "",
        "MobileNetV2 and ShuffleNetV2 on CIFAR-10, and a WideResNet on CIFAR-100: no weights were at hand.",
    ]
    if left_out:
        lines += ["These rows are planned (`make bench-results` measures them), and have not been measured:", ""]
    return [*lines, *(f"- {network}: {'; '.join(rows)}." for network, rows in left_out.items()), ""]


def _published(rows: Rows, published: list[Row]) -> list[str]:
    lines = [
        "## What others publish",
        "",
        "Figures of others, not measured here; most differ from ours in more than the method, as the columns say:",
        "what their network and its float accuracy are, whether labels or training went into it, and what bytes mean.",
        "*Source read* says whether the figure was read there or is second-hand. *Ours* is our smallest file of the",
        f"same form of network that loses at most {DROP} points: bytes; top-1 % (float). Beside a float row: ours.",
        "",
        "| network | method | float | top-1 % | bytes | which are | trained | source | source read | ours |",
        "|---|---|---:|---:|---:|---|---|---|---|---|",
    ]
    for row in published:
        cells = [f"{row['network']}, {row['data']}", row["method"], row["float"], row["top1"], row["bytes"]]
        cells += [row["counted"], row["trained"], row["source"], row["read"], _beside(rows, row)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _beside(rows: Rows, published: Row) -> str:
    own = of(rows, published["beside"]) if published["beside"] else []
    if not own or own[0]["method"] != "float":
        return "–"
    if published["method"] == "float":
        epochs = f", {own[0]['epochs']} epochs" if "epochs" in own[0] else ""
        return f"{own[0]['top1']:.2f}{epochs}"
    good = [row for method in OURS if (row := smallest(own, method, DROP)) is not None]
    if not good:
        return "–"
    best = min(good, key=lambda row: row["bytes"])
    return f"{best['bytes']:,}; {best['top1']:.2f} ({own[0]['top1']:.2f}); {best['method']}"


def _main(rows: Rows) -> list[str]:
    lines = [
        "## The smallest good files",
        "",
        f"Good is: at most {DROP} points lost (CIFAR-10), at least {AGREEMENT} % agreement (ImageNet), at most {ERROR}",
        "of squared error (MTCNN). NNCodec's is the smallest of its files that is good too, for ImageNet and MTCNN no",
        "worse than ours. *At equal divergence*: over NNCodec's bytes at that divergence, read between its files.",
        "Which setting is taken is chosen on the unseen pictures, for all alike.",
        "",
        "| network | method | setting | ours | loses | NNCodec | loses | ratio | goal | at equal divergence |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for network in networks(rows):
        own = of(rows, network)
        methods = [m for m in OURS if any(row["method"] == m for row in own)] or [""]
        lines += [f"| {network} | {' | '.join(_compared(own, method))} |" for method in methods]
    return [*lines, ""]


def _compared(own: list[Row], method: str) -> list[str]:
    """Return the cells of one line of the main table; without a method of ours, NNCodec's alone."""
    ours, peer = pair(own, method)
    goal = GOALS.get((measure(own[0]), method))
    equal = at_equal(own, ours) if ours else None
    return [
        method or "–",
        ours["setting"] if ours else "–",
        *_file(ours, own),
        *_file(peer, own),
        f"{ours['bytes'] / peer['bytes']:.2f}" if ours and peer else "–",
        f"≤ {goal:.2f}" if goal else "–",
        f"{equal:.2f}" if equal else "–",
    ]


def _file(row: Row | None, own: list[Row]) -> list[str]:
    return [f"{row['bytes']:,}", lost(row, own[0])] if row else ["–", "–"]


def lost(row: Row, whole: Row) -> str:
    """Return what a row's network loses, in words of its measure."""
    number = loss(row, whole)
    return {"drop": f"{number:.2f} points", "agreement": f"{number:.1f} % changed", "error": f"{number:.2g}"}[
        measure(row)
    ]


def _trained(rows: Rows) -> list[str]:
    """Return how far files that were trained through are from what we want of them."""
    lines = [
        "## Trained through the file",
        "",
        "What we want of `mess train -N -v v4` on CIFAR-10, and the most accurate file so far that is as small, or",
        "else the smallest. Others: 65 kB at 92.0 % (DNAS), 66 kB at 91.5 % (LilNetX, four times as wide).",
        "",
        "| network | bytes, at most | top-1 %, at least | ours: setting | bytes | top-1 % (float) | goal |",
        "|---|---:|---:|---|---:|---:|---|",
    ]
    for names, most, least in TRAINED_GOALS:
        own = [row for name in names for row in of(rows, name) if row["method"] == "v4, retrained"]
        cells = [names[0] if len(names) == 1 else "any of these", f"{most:,}", f"{least:.1f}"]
        best = min(own, key=lambda row: (row["bytes"] > most, -row["top1"], row["bytes"]), default=None)
        if best is None:
            cells += ["–", "–", "–", "not measured"]
        else:
            whole = of(rows, best["network"])[0]
            met = best["bytes"] <= most and best["top1"] >= least
            cells += [best["setting"], f"{best['bytes']:,}", f"{best['top1']:.2f} ({whole['top1']:.2f})"]
            cells.append("met" if met else "**missed**")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _seeds(rows: Rows) -> list[str]:
    """Return what files of a setting come to that are made of other calibration pictures."""
    lines = [
        "## Other pictures, other seeds",
        "",
        "Files of one setting, each made with other calibration pictures and another seed: the mean, and from the",
        "least to the most.",
        "",
        "| network | method | setting | n | bytes | loses | divergence or error, thousandths |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    first = len(lines)
    for network in networks(rows):
        own = all_of(rows, network)
        settings = {(row["method"], row["setting"].partition(", seed")[0]): None for row in own if row.get("seed")}
        for method, setting in settings:
            several = [r for r in own if r["method"] == method and r["setting"].partition(", seed")[0] == setting]
            strayed = [1000 * (row["error"] if "error" in row else row["divergence"]) for row in several]
            cells = [_spread([row["bytes"] for row in several], ",.0f"), _losses(several, own[0])]
            cells.append(_spread(strayed, ".1f"))
            lines.append(f"| {network} | {method} | {setting} | {len(several)} | {' | '.join(cells)} |")
    return [*lines, ""] if len(lines) > first else []


def _losses(several: list[Row], whole: Row) -> str:
    kind, losses = measure(whole), [loss(row, whole) for row in several]
    unit = {"drop": " points", "agreement": " % changed", "error": ""}[kind]
    return _spread(losses, ".4f" if kind == "error" else ".2f") + unit


def _spread(numbers: list[float], form: str) -> str:
    return f"{sum(numbers) / len(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def _defaults(rows: Rows) -> list[str]:
    lines = [
        "## As it comes",
        "",
        f"No rate is named. The goal: at least {WHOLE_AGREEMENT:g} % agreement, or at most {DROP} points lost.",
        "",
        "| network | method | bytes | top-1 % (float) | agreement % | divergence | processor s | peak MB | goal |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    found = [
        (row, of(rows, network)[0])
        for network in networks(rows)
        for row in of(rows, network)
        if row["method"] in OURS and row["setting"].startswith(DEFAULT)
    ]
    for row, whole in found:
        cells = [row["network"], row["method"], f"{row['bytes']:,}", *_quality(row, whole), *_cost(row)]
        lines.append(f"| {' | '.join(cells)} | {'kept' if keeps(row, whole) else '**missed**'} |")
    return [*lines, ""] if found else []


def keeps(row: Row, whole: Row) -> bool:
    """Tell whether a network stored by default answers like the float one."""
    if "error" in row:
        return row["error"] <= ERROR
    return row["agreement"] >= WHOLE_AGREEMENT or whole["top1"] - row["top1"] <= DROP + 1e-9


def _quality(row: Row, whole: Row) -> list[str]:
    if "error" in row:
        return ["–", "–", f"error {row['error']:.2g}"]
    divergence = "not finite" if row["divergence"] is None else f"{row['divergence']:.2g}"
    return [f"{row['top1']:.2f} ({whole['top1']:.2f})", f"{row['agreement']:.2f}", divergence]


def _cost(row: Row) -> list[str]:
    return [f"{row['seconds']:.0f}" if "seconds" in row else "–", f"{row['peak_mb']:,}" if "peak_mb" in row else "–"]


def _knob(rows: Rows) -> list[str]:
    """Return what each rate that was asked for came to."""
    asked = sorted({row["setting"] for row in rows.values() if of_a_rate(row)}, key=float)
    lines = [
        "## What a rate means",
        "",
        "`--divergence` asked for, and what the unseen pictures said: points lost (CIFAR-10), percent of answers that",
        "changed (ImageNet), squared error (MTCNN); the divergence seen, in thousandths of a nat; the file in kB.",
        "",
        "| network | method | " + " | ".join(asked) + " |",
        "|---|---|" + "---|" * len(asked),
    ]
    for network in networks(rows):
        own = of(rows, network)
        for method in OURS:
            by_rate = {row["setting"]: row for row in own if row["method"] == method}
            if by_rate.keys() & set(asked):
                cells = [_came_to(by_rate.get(rate), own[0]) for rate in asked]
                lines.append(f"| {network} | {method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def of_a_rate(row: Row) -> bool:
    """Tell whether a row is v4's at a rate that was asked for, with the first seed."""
    return row["method"] in OURS[:-1] and row["setting"].replace(".", "", 1).isdigit()


def _came_to(row: Row | None, whole: Row) -> str:
    if row is None:
        return "–"
    size = f"{row['bytes'] / 1000:,.0f} kB"
    if measure(row) == "error":
        return f"{row['error']:g}; {size}"
    unit = "points" if measure(row) == "drop" else "%"
    return f"{loss(row, whole):.2f} {unit}; {1000 * row['divergence']:.1f}; {size}"


def _everything(network: str, own: list[Row]) -> list[str]:
    lines = [
        f"## {network}, every row",
        "",
        "| method | setting | bytes | top-1 % (float) | agreement % | divergence | processor s | peak MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in own:
        cells = [row["method"], row["setting"], f"{row['bytes']:,}", *_quality(row, own[0]), *_cost(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *all_described(own), ""]
