"""What `ablation.py` measured, for people: the bytes that each part of version 4 saves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablation import FULL, PLANS, SEEDS, plan
from ablation_ingredients import INGREDIENTS
from ablation_tried import TRIED
from common import all_described

WORTH = 0.003  # of the bytes: what a part saves at least on a network to earn its place there
ENOUGH = 6  # files of the full method, from which on a curve through them may bend
Row = dict[str, Any]
Rows = dict[str, Row]


@dataclass(frozen=True)
class Curve:
    """Bytes of the full method's files over their divergence, both by their logarithm.

    Attributes:
        powers: of the polynomial, without its constant.
        constants: by seed, which stands for other pictures to round with: files of some are better than of others.
    """

    powers: np.ndarray
    constants: dict[int, float]

    def over(self, row: Row) -> float:
        """Return how much longer a file is, in the logarithm of bytes."""
        known = float(np.polyval([*self.powers, self.constants[row["seed"]]], math.log(lost(row))))
        return math.log(row["bytes"]) - known


@dataclass(frozen=True)
class Shares:
    """What files of a network have more without a part.

    Attributes:
        by_seed: seed and share of each file.
        unsure: standard error of their mean.
        beyond: some are of a divergence that the full method's files do not reach.
    """

    by_seed: list[tuple[int, float]]
    unsure: float
    beyond: bool

    @property
    def mean(self) -> float:
        return sum(share for _, share in self.by_seed) / len(self.by_seed)

    @property
    def earned(self) -> bool:
        """Whether the part saves bytes for sure."""
        return self.mean > max(WORTH, self.unsure)


def page(rows: Rows) -> list[str]:
    """Return the page."""
    curves = {name: curve(full) for name in PLANS if len(full := of(rows, name, FULL)) > 1}
    saved = {name: {part: shares(rows, name, part, curves[name]) for part in (*INGREDIENTS, *TRIED)} for name in curves}
    strays = {name: scatter(of(rows, name, FULL), curves[name]) for name in curves}
    return [
        "# What each part of v4 is worth",
        "",
        "`make bench-ablation`: a network is stored without one part of the method, the plain thing in its place, and",
        "with all others; the file is read back and asked about pictures that nothing was learned from. A *share* is",
        "how many more bytes that file has than the full method's would have at the same divergence: what the part",
        "saves. No rate is searched for: λ, the price of a bit, is given. Outputs of MTCNN's networks are no scores:",
        "there it is at the same squared error.",
        "",
        *(f"- {line}" for line in _networks(rows, curves, strays)),
        "",
        "The full method's bytes at a divergence are read from a curve through all its files (least squares, both on",
        "logarithmic axes, one shape for all seeds and a constant for each). What rounding does to the answers is in",
        "part chance, so files lie about the curve; ± is what this leaves unsure of a share, a mean over rates and",
        "seeds (one standard error). ° stands where a divergence is beyond those of the curve: the share is",
        "extrapolated.",
        "",
        f"| part | {' | '.join(curves)} | earns its place on |",
        f"|---|{'---:|' * len(curves)}---|",
        *(_line(part, [saved[name][part] for name in curves]) for part in INGREDIENTS),
        "",
        f"A part earns its place on a network where it saves more than {100 * WORTH:.1f} %, and more than the ±.",
        "Shares of several parts do not add up: each is what is lost when all the others are there to make up for it.",
        *_missing(rows),
        "",
        "## Each seed",
        "",
        "A seed stands for other pictures to round with, too.",
        "",
        *_seeds(curves, saved),
        "",
        "## The parts",
        "",
        "| part | what it does | without it | from |",
        "|---|---|---|---|",
        *(f"| {name} | {part.does} | {part.without} | {part.source} |" for name, part in INGREDIENTS.items()),
        "",
        "*levels* is the same integers coded anew, a length alone: no reader knows such a file.",
        "",
        *_tried(saved),
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


def lost(row: Row) -> float:
    """Return how far a file strays: its divergence in nats, or the squared error of outputs that are no scores."""
    return float(row["error"] if "error" in row else row["divergence"])


def curve(full: list[Row]) -> Curve:
    """Return the curve that is nearest to the full method's files: one shape, and a constant for each seed."""
    seeds = sorted({row["seed"] for row in full})
    x_N, y_N = np.log([(lost(row), row["bytes"]) for row in full]).T
    degrees = range(2 if len(full) >= ENOUGH * len(seeds) else 1, 0, -1)
    own_SN = [[float(row["seed"] == seed) for row in full] for seed in seeds]
    found = np.linalg.lstsq(np.array([*(x_N**d for d in degrees), *own_SN]).T, y_N, rcond=None)[0]
    return Curve(found[: len(degrees)], dict(zip(seeds, found[len(degrees) :].tolist(), strict=True)))


def scatter(full: list[Row], known: Curve) -> float:
    """Return by what share files stray from the curve: the standard deviation, 0 where too few say."""
    strayed = [known.over(row) for row in full]
    free = len(full) - len(known.powers) - len(known.constants)
    return math.sqrt(sum(x * x for x in strayed) / free) if free > 0 else 0.0


def shares(rows: Rows, network: str, part: str, known: Curve) -> Shares:
    """Return what each file without a part has more than the full method's files."""
    full = of(rows, network, FULL)
    if part in INGREDIENTS and INGREDIENTS[part].coder:
        found = [(row["seed"], row["coded without"][part] / row["bytes"] - 1) for row in full]
        return Shares(found, 0.0, beyond=False)
    ends = [end(lost(row) for row in full) for end in (min, max)]
    own = [row for row in of(rows, network, part) if row["seed"] in known.constants]
    return Shares(
        [(row["seed"], math.exp(known.over(row)) - 1) for row in own],
        scatter(full, known) * math.sqrt(1 / len(own) + 1 / len(full)) if own else 0.0,
        any(not ends[0] <= lost(row) <= ends[1] for row in own),
    )


def verdict(found: list[Shares]) -> str:
    """Return on how many of the networks measured a part earns its place."""
    told = [own.earned for own in found if own.by_seed]
    return f"{told.count(True)} of {len(told)}" if told else "–"


def _line(part: str, found: list[Shares]) -> str:
    return f"| {part} | {' | '.join(_cell(own) for own in found)} | {verdict(found)} |"


def _cell(found: Shares) -> str:
    if not found.by_seed:
        return "–"
    unsure = f" ± {100 * found.unsure:.1f}" if found.unsure else ""
    return f"{100 * found.mean:+.1f}{unsure} %{'°' if found.beyond else ''}"


def _tried(saved: dict[str, dict[str, Shares]]) -> list[str]:
    """Return what was tried beside the method, on the networks that it was tried on."""
    names = [name for name in saved if PLANS[name].tried]
    return [
        "## Tried, and left out",
        "",
        "Done beside the whole method: how many more bytes a file *with* it has (fewer, where there is a minus) than",
        "the method's at the same divergence.",
        "",
        f"| tried | {' | '.join(names)} | what it does | from |",
        f"|---|{'---:|' * len(names)}---|---|",
        *(
            f"| {part} | {' | '.join(_cell(saved[name][part]) for name in names)} | {tried.does} | {tried.source} |"
            for part, tried in TRIED.items()
        ),
        "",
    ]


def _networks(rows: Rows, curves: dict[str, Curve], strays: dict[str, float]) -> list[str]:
    lines = []
    for name in curves:
        full, own = of(rows, name, FULL), PLANS[name]
        ends = [end(lost(row) for row in full) for end in (min, max)]
        lines.append(
            f"{name}, {own.kind}: {own.images:,} pictures to round with,"
            f" {_unseen(full[0].get('pictures', own.unseen), own.unseen)}; {len(full)} files of the full method,"
            f" {ends[0]:.2g} to {ends[1]:.2g} {'of squared error' if 'error' in full[0] else 'nats'}, which stray from"
            f" their curve by {100 * strays[name]:.1f} % of the bytes"
        )
    return lines


def _unseen(looked_at: int, pictures: int) -> str:
    if looked_at <= pictures:
        return f"{looked_at:,} unseen ones"
    return f"{pictures:,} unseen ones in {looked_at // pictures} views (mirrored, nearer)"


def _missing(rows: Rows) -> list[str]:
    planned = [job.key for name in PLANS for seed in SEEDS for job in plan(name, seed)]
    left = sum(key not in rows for key in planned)
    return [f"Of {len(planned)} rows planned, {left} are not measured yet."] if left else []


def _seeds(curves: dict[str, Curve], saved: dict[str, dict[str, Shares]]) -> list[str]:
    lines = [f"| part | {' | '.join(curves)} |", f"|---|{'---|' * len(curves)}"]
    for part in INGREDIENTS:
        cells = []
        for name in curves:
            by_seed: dict[int, list[float]] = {}
            for seed, share in saved[name][part].by_seed:
                by_seed.setdefault(seed, []).append(share)
            cells.append(", ".join(f"{s}: {100 * sum(own) / len(own):+.1f} %" for s, own in by_seed.items()) or "–")
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def _all(rows: Rows) -> list[str]:
    lines = [
        "| network | without, or with | λ for nats | seed | bytes | divergence, error | agreement % | top-1 % |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for network in PLANS:
        for part in (FULL, *INGREDIENTS, *TRIED):
            lines += [
                f"| {network} | {_named(part)} | {row['rate']:g} | {row['seed']} | {row['bytes']:,} |"
                f" {lost(row):.4g} | {_percent(row, 'agreement')} | {_percent(row, 'top1')} |"
                for row in of(rows, network, part)
            ]
    return lines


def _named(part: str) -> str:
    return "–" if part == FULL else f"with {part}" if part in TRIED else part


def _percent(row: Row, name: str) -> str:
    return f"{row[name]:.2f}" if name in row else "–"
