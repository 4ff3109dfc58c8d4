"""What `answers.py` measured of the versions before v4, for people: stored, retrained, trained from nothing."""

from __future__ import annotations

from typing import Any

from common import all_described
from runs import RUNS, VERSIONS

Row = dict[str, Any]


def page(rows: dict[str, Row]) -> list[str]:
    """Return the page: a table a network, a line a version, a column a way to store or train."""
    lines = [
        "# Every version of the scheme",
        "",
        "`make bench-results`: bytes of the file → top-1 % of the network read back from it, on all 10,000 test images",
        "of CIFAR-10 or CIFAR-100; n = 1, seed 0. 8 bits: α and β in 8 bits, the rest in half precision; 32 bits: all",
        "as they are. *Stored*: nothing more, no images. *Retrained* and *from scratch*: in 8 bits, all numbers",
        "learned through the decoder, or with `--project` the kernels replaced every epoch, as the specification has",
        "it; `--nl` and `--pl` are the penalties on the references. Of the epochs the best is kept, chosen on the test",
        "images, as the float network's is. The epochs are few: what longer training wins back is not measured. v4",
        "stands in [Accuracy and bytes](answers.md).",
    ]
    matched = [row for row in rows.values() if row["method"] in VERSIONS]
    for network in dict.fromkeys(row["network"] for row in matched):
        own = [row for row in matched if row["network"] == network]
        whole = next((r for r in rows.values() if r["network"] == network and r["method"] == "float"), None)
        if whole is not None:
            lines += ["", f"## {network}: {whole['top1']:.2f} %, {whole['bytes']:,} B as float", "", *_table(own)]
            lines += ["", *all_described([whole, *own])]
    missing = [run for run in RUNS if run.method in VERSIONS and not _of(matched, run.network, run.method, run.setting)]
    trained = [run for run in RUNS if run not in missing and run.method in VERSIONS]
    if trained:
        lines += ["", "The trainings, with WEIGHTS the folder of public weights:", "", "```text"]
        lines += [run.command for run in trained] + ["```"]
    if missing:
        lines += ["", "## Not measured", "", "These trainings are planned, and have not been run yet:", ""]
        lines += [f"- {run.network}, {run.method}, {run.setting}" for run in missing]
    return lines


def _table(own: list[Row]) -> list[str]:
    ways = sorted({row["setting"] for row in own}, key=lambda way: (not way.startswith("stored"), way))
    versions = [version for version in VERSIONS if any(row["method"] == version for row in own)]
    lines = ["| version | " + " | ".join(ways) + " |", "|---|" + "---:|" * len(ways)]
    for version in versions:
        cells = [_of(own, None, version, way) for way in ways]
        shown = [f"{row['bytes']:,} → {row['top1']:.2f}" if row else "–" for row in cells]
        lines.append(f"| {version} | " + " | ".join(shown) + " |")
    return lines


def _of(rows: list[Row], network: str | None, version: str, way: str) -> Row | None:
    found = [row for row in rows if row["method"] == version and row["setting"] == way]
    return next((row for row in found if network in (None, row["network"])), None)
