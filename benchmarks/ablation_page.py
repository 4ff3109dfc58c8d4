"""What `ablation.py` measured, for people: the bytes that each part of version 4 saves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ablation import FULL, PLANS
from ablation_ingredients import INGREDIENTS
from common import all_described

WORTH = 0.003  # of the bytes: what a part saves at least on a network to earn its place there
ENOUGH = 6  # files of the full method, from which on a curve through them may bend
Row = dict[str, Any]
Rows = dict[str, Row]
Curve = np.ndarray  # polynomial: log of divergence → log of bytes


def page(rows: Rows) -> list[str]:
    """Return the page."""
    curves = {name: curve(full) for name in PLANS if len(full := of(rows, name, FULL)) > 1}
    saved = {name: {part: shares(rows, name, part, curves[name]) for part in INGREDIENTS} for name in curves}
    strays = {name: scatter(of(rows, name, FULL), curves[name]) for name in curves}
    return [
        "# What each part of v4 is worth",
        "",
        "`make bench-ablation`: a network is stored without one part of the method, the plain thing in its place, and",
        "with all others; the file is read back and asked about pictures that nothing was learned from. A *share* is",
        "how many more bytes that file has than the full method's would have at the same divergence: what the part",
        "saves. No rate is searched for: λ, the price of a bit, is given.",
        "",
        *(f"- {line}" for line in _networks(rows, curves, strays)),
        "",
        "The full method's bytes at a divergence are read from a curve through all its files (least squares, both on",
        "logarithmic axes). Where a number falls between two integers is chance, so files lie about the curve; ± is",
        "what this leaves unsure of a mean (one standard error). ° stands where the divergence is beyond those of the",
        "curve: the share is extrapolated.",
        "",
        f"| part | {' | '.join(curves)} | verdict |",
        f"|---|{'---:|' * len(curves)}---|",
        *(_line(part, {name: saved[name][part] for name in curves}, strays) for part in INGREDIENTS),
        "",
        f"A part earns its place on a network where it saves more than {100 * WORTH:.1f} %, whatever the ±. Shares of",
        "several parts do not add up: each is what is lost when all the others are there to make up for it.",
        "",
        "## Each seed",
        "",
        "A seed stands for other pictures to round with, too.",
        "",
        *_seeds(curves, saved),
        "",
        "## The parts",
        "",
        "| part | without it | from |",
        "|---|---|---|",
        *(f"| {name} | {part.without} | {part.source} |" for name, part in INGREDIENTS.items()),
        "",
        "*contexts* is the same integers coded anew, a length alone: no reader knows such a file.",
        "",
        "## All rows",
        "",
        *_all(rows),
        "",
        *all_described(rows.values()),
    ]


def of(rows: Rows, network: str, ingredient: str) -> list[Row]:
    """Return the rows of a network without one part, by seed, then from large files to small ones."""
    own = [row for row in rows.values() if (row["network"], row["ingredient"]) == (network, ingredient)]
    return sorted(own, key=lambda row: (row["seed"], row["rate"]))


def curve(full: list[Row]) -> Curve:
    """Return the curve of bytes over divergence that is nearest to the full method's files."""
    logs = np.log([(row["divergence"], row["bytes"]) for row in full])
    return np.polyfit(logs[:, 0], logs[:, 1], 2 if len(full) >= ENOUGH else 1)


def scatter(full: list[Row], known: Curve) -> float:
    """Return by what share files stray from the curve: the standard deviation, 0 where too few say."""
    strayed = [_over(row, known) for row in full]
    free = len(full) - len(known)
    return math.sqrt(sum(x * x for x in strayed) / free) if free > 0 else 0.0


def shares(rows: Rows, network: str, part: str, known: Curve) -> list[tuple[int, float, bool]]:
    """Return (seed, share, whether it is extrapolated) of each file without a part."""
    full = of(rows, network, FULL)
    if INGREDIENTS[part].coder:
        return [(row["seed"], row["coded without"][part] / row["bytes"] - 1, False) for row in full]
    ends = [end(row["divergence"] for row in full) for end in (min, max)]
    return [
        (row["seed"], math.exp(_over(row, known)) - 1, not ends[0] <= row["divergence"] <= ends[1])
        for row in of(rows, network, part)
    ]


def earns(found: list[tuple[int, float, bool]]) -> bool | None:
    """Return whether a part saves enough on a network; None: not measured."""
    return _mean(found) > WORTH if found else None


def verdict(found: dict[str, list[tuple[int, float, bool]]]) -> str:
    """Return whether a part stays: it goes where it earns nothing on two of three networks."""
    told = [earns(own) for own in found.values()]
    if told.count(True) >= 2:
        return "stays"
    return "goes" if told.count(False) >= 2 else "open"


def _over(row: Row, known: Curve) -> float:
    return math.log(row["bytes"]) - float(np.polyval(known, math.log(row["divergence"])))


def _mean(found: list[tuple[int, float, bool]]) -> float:
    return sum(share for _, share, _ in found) / len(found)


def _line(part: str, found: dict[str, list[tuple[int, float, bool]]], strays: dict[str, float]) -> str:
    cells = [_cell(own, 0.0 if INGREDIENTS[part].coder else strays[name]) for name, own in found.items()]
    return f"| {part} | {' | '.join(cells)} | {verdict(found)} |"


def _cell(found: list[tuple[int, float, bool]], strays: float) -> str:
    if not found:
        return "–"
    beyond = "°" if any(far for _, _, far in found) else ""
    unsure = f" ± {100 * strays / math.sqrt(len(found)):.1f}" if strays else ""
    return f"{100 * _mean(found):+.1f}{unsure} %{beyond}"


def _networks(rows: Rows, curves: dict[str, Curve], strays: dict[str, float]) -> list[str]:
    lines = []
    for name in curves:
        full, own = of(rows, name, FULL), PLANS[name]
        ends = [end(row["divergence"] for row in full) for end in (min, max)]
        lines.append(
            f"{name}, {own.kind}: {own.images:,} pictures to round with, {full[0]['pictures']:,} unseen ones;"
            f" {len(full)} files of the full method, {ends[0]:.2g} to {ends[1]:.2g} nats, which stray from their curve"
            f" by {100 * strays[name]:.1f} % of the bytes"
        )
    return lines


def _seeds(curves: dict[str, Curve], saved: dict[str, dict[str, list[tuple[int, float, bool]]]]) -> list[str]:
    lines = [f"| part | {' | '.join(curves)} |", f"|---|{'---|' * len(curves)}"]
    for part in INGREDIENTS:
        cells = []
        for name in curves:
            by_seed: dict[int, list[float]] = {}
            for seed, share, _ in saved[name][part]:
                by_seed.setdefault(seed, []).append(share)
            cells.append(", ".join(f"{s}: {100 * sum(own) / len(own):+.1f} %" for s, own in by_seed.items()) or "–")
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def _all(rows: Rows) -> list[str]:
    lines = [
        "| network | without | λ for nats | seed | bytes | divergence | agreement % | top-1 % | processor s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for network in PLANS:
        for part in (FULL, *INGREDIENTS):
            lines += [
                f"| {network} | {'–' if part == FULL else part} | {row['rate']:g} | {row['seed']} | {row['bytes']:,} |"
                f" {row['divergence']:.4g} | {row['agreement']:.2f} | {row['top1']:.2f} | {row['seconds']:.0f} |"
                for row in of(rows, network, part)
            ]
    return lines
