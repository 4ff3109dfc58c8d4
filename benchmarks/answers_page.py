"""What `answers.py` measured, for people: every network's smallest good files, what others publish, and all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from answers_rows import (
    AGREEMENT,
    DROP,
    ERROR,
    OURS,
    WHOLE_AGREEMENT,
    Row,
    Rows,
    all_of,
    at_equal,
    keeps,
    loss,
    measure,
    networks,
    of,
    pair,
    smallest,
)
from common import all_described

DEFAULT = "as it comes"
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
        "  error over the variance of each output. They have no BatchNorm, which images could be made up from: without",
        "  any v4 rounds them by themselves, finely.",
        "",
        "*Divergence* is the mean of KL(float‖stored) in nats. Tables show the mean of n files where there are several",
        "seeds, each with other calibration pictures, and else one of seed 0; the versions before v4 have",
        "[a page of their own](schemes.md).",
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
        "Which setting is taken is chosen on the unseen pictures, for all alike; *n* files of ours are a mean.",
        "",
        "| network | method | setting | n | ours | loses | NNCodec | loses | ratio | goal | at equal divergence |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
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
        f"{ours['n']}" if ours else "–",
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
