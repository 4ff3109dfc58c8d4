"""What interrupted runs and damaged files came to, for people: the soak, and the programs that damage files."""

from __future__ import annotations

from typing import Any

import soak_page
from common import one_level_down

Row = dict[str, Any]


def page(soak: dict[str, Row], fuzz: dict[str, Row]) -> list[str]:
    """Return the page."""
    return ["# Robustness", "", *one_level_down(soak_page.page(soak)), "", *_damaged(fuzz)]


def _damaged(rows: dict[str, Row]) -> list[str]:
    lines = [
        "## Damaged files",
        "",
        "Small files of every version (references, indices, scales, offsets, floats of three widths, integers, ties,",
        "sums of references, BatchNorm), damaged, with all checksums made right again. Each must give a model or be",
        "refused with `FormatError`, within 3 GiB of memory and one second of processor time.",
        "",
        "| reader | by | files | found | commit, or when |",
        "|---|---|---:|---|---|",
    ]
    for name, told in (("format", _python), ("coverage", _atheris), ("c", _libfuzzer), ("beside", _beside)):
        if name in rows:
            row = rows[name]
            reader, by, found = told(row)
            lines.append(f"| {reader} | {by} | {row['files']:,} | {found} | {row.get('commit') or row['date']} |")
    if "killed" in rows:
        row = rows["killed"]
        lines += [
            "",
            f"A writer killed at {row['kills']} moments: it was the old file or the new one {row['whole']} times.",
        ]
    return lines


def _python(row: Row) -> tuple[str, str, str]:
    found = f"{row['refused']:,} refused, {row['read']:,} read, the slowest in {row['slowest_ms']} ms"
    return "Python", f"`make fuzz`, seed {row['seed']}", found


def _atheris(row: Row) -> tuple[str, str, str]:
    return "Python", f"`tests/fuzz_coverage.py`, atheris, {row['minutes']:g} minutes", _findings(row)


def _libfuzzer(row: Row) -> tuple[str, str, str]:
    return "C", f"`make fuzz-c`, libFuzzer with AddressSanitizer, {row['minutes']:g} minutes", _findings(row)


def _beside(row: Row) -> tuple[str, str, str]:
    return "C beside Python", "damaged files of all versions", f"{row['alike']:,} alike: {row['read']:,} read by both"


def _findings(row: Row) -> str:
    return f"{row['findings'] or 'no'} finding{'' if row['findings'] == 1 else 's'}, {row['edges']:,} edges of code"
