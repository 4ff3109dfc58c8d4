"""What `gpu.py` measured, for people."""

from __future__ import annotations

from typing import Any

GOALS = {"plain": 3.0, "floor": 0.8, "others": 2.0, "-N -v v2": 1.3, "-N -v v4": 2.0}


def page(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    about = rows["setting"]
    lines = [
        "# On a GPU",
        "",
        f"`python benchmarks/gpu.py`: {about['device']}, commit {about['commit']}, torch {about['torch']}, on",
        f"{about['machine']}; {about['data']}. Images a second; *plain loop*: PyTorch as everybody writes it, float32,",
        "a DataLoader of PIL images; *floor*: a step captured by hand, bf16, channels_last, on images that are there.",
        "",
    ]
    if isinstance(checks := rows.get("checks"), dict):
        lines += [f"`tests/test_cuda.py`: {checks.get('last', checks)}", ""]
        lines += [f"- {line}" for line in checks.get("failed", [])]
    loops = {name: row for name, row in rows.items() if name.startswith("loops ")}
    if loops:
        lines += ["| network, batch | plain loop | floor | `mess train`, bf16 | × plain | × floor |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, row in loops.items():
        if "floor" not in row:
            lines.append(f"| {name.removeprefix('loops ')} | {row} | | | | |")
            continue
        ours = row["mess train"]
        lines.append(
            f"| {name.removeprefix('loops ')} | {row['plain']:,} | {row['floor']:,} | {ours:,} |"
            f" {ours / max(1, row['plain']):.2f} | {ours / max(1, row['floor']):.2f} |"
        )
    others = [(name, row) for name, row in loops.items() if "--eager" in row]
    for name, row in others:
        ways = ("mess train", "--eager", "--deterministic", "float32", "fp16")
        figures = ", ".join(f"`{way}` {row[way]:,}" for way in ways if way in row)
        lines += ["", f"{name.removeprefix('loops ')}, other ways: {figures}."]
    lines += [
        f"- {n}: {key} {row[key]}" for n, row in rows.items() if isinstance(row, dict) for key in row if "warn" in key
    ]
    if "schemes" in rows:
        lines += ["", "## Schemes, float32", ""]
        row = rows["schemes"]
        if "plain" in row:
            lines += ["| way | images/s | a step over a plain one | goal |", "|---|---:|---:|---:|"]
            for way in (key for key in row if key.startswith("-N") and "warn" not in key):
                cost = row["plain"] / max(1, row[way])
                lines.append(f"| `{way}` | {row[way]:,} | {cost:.2f} | {GOALS.get(way, '')} |")
        else:
            lines.append(str(row))
    if isinstance(row := rows.get("storing"), dict):
        lines += ["", "## Storing, version 4", "", "| network, where | seconds | bytes | divergence | agreement |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for way, found in row.items():
            if isinstance(found, dict):
                figures = (found["seconds"], f"{found['bytes']:,}", found["divergence"], found["agreement"] or "")
                lines.append(f"| {way} | {' | '.join(map(str, figures))} |")
        lines += [""] + [f"- {way}: {found}" for way, found in row.items() if not isinstance(found, dict)]
    for name, title in (
        ("first step", "Start-up, seconds"),
        ("accuracy", "ResNet-20 from nothing"),
        ("pictures", "Pictures"),
    ):
        if name in rows:
            lines += ["", f"## {title}", "", "; ".join(f"{key}: {value}" for key, value in rows[name].items())]
    return lines
