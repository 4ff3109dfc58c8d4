"""The rows that `answers.py` measured: by network and setting, what each loses, and the smallest good files."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

DROP = 0.3  # points of accuracy that may be lost, on test sets of thousands of pictures
AGREEMENT = 96.5  # percent of answers that stay, on test sets of hundreds
ERROR = 0.01  # relative squared error of outputs that are no class scores
FEW = 1000  # pictures, below which accuracy is too coarse to be a measure
WHOLE_AGREEMENT = 99.0  # percent: what the default has to keep, or else lose no more than DROP
ORDER = (
    "float", "ZipNN", "integers + zstd", "k-means + zstd", "NNCodec",
    "v4, no images", "v4, 128 images", "v4, 1,024 images", "v4, retrained",
)  # fmt: skip
OURS = ORDER[5:]
WHOLE = ("bytes", "peak_mb")
MEANS = (*WHOLE, "top1", "agreement", "divergence", "error", "seconds")
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
    """Return one row for each setting, the mean of its seeds: no table or figure chooses among seeds."""
    several: dict[tuple[str, str], list[Row]] = {}
    for row in all_of(rows, network):
        several.setdefault((row["method"], row["setting"].partition(", seed")[0]), []).append(row)
    means = [_mean(setting, found) for (_, setting), found in several.items()]
    return sorted(means, key=lambda row: (ORDER.index(row["method"]), row["bytes"]))


def _mean(setting: str, several: list[Row]) -> Row:
    mean: Row = {**several[0], "setting": setting, "n": len(several)}
    for name in MEANS:
        found = [row[name] for row in several if row.get(name) is not None]
        if len(found) == len(several):
            mean[name] = round(sum(found) / len(found)) if name in WHOLE else sum(found) / len(found)
    return mean


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


def keeps(row: Row, whole: Row) -> bool:
    """Tell whether a network stored by default answers like the float one."""
    if "error" in row:
        return row["error"] <= ERROR
    return row["agreement"] >= WHOLE_AGREEMENT or whole["top1"] - row["top1"] <= DROP + 1e-9
