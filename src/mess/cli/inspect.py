"""`mess inspect`: what a `.mess` file holds, every byte accounted for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mess import hub
from mess.cli.flags import MAX_BYTES
from mess.cli.output import make_table, make_wide_console
from mess.codec import FileInfo, bits_per_weight
from mess.codec.model_file import LARGEST_MODEL
from mess.codec.native import reader_name
from mess.codec.rows import (
    FEW,
    NAME_OF_SECTION,
    Row,
    as_json,
    by_reason,
    network_name,
    precision_of,
    rows_of,
    scheme_name,
    seen_of,
)
from mess.display.sizes import parse_size
from mess.inspection import inspect

EXAMPLES = """Examples:
  mess inspect net.mess
  mess inspect net.mess --all
  mess inspect net.mess --json"""
MAX_BAR, MIN_BAR = 30, 6  # characters; a narrower one says nothing
MAX_NAME = 40  # characters that bars leave to the name of a layer
GAP = 2  # characters between columns
EIGHTHS = " ▏▎▍▌▋▊▉"
COLOURS = {
    "indices": "blue", "scales": "yellow", "offsets": "green", "references": "magenta", "expansions": "blue",
    "tensors": "cyan", "batch norms": "red", "header": "white", "manifest": "white",
    "graph": "white",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess inspect`."""
    parser.add_argument("file", metavar="FILE.mess", type=Path, help="what is looked into")
    parser.add_argument(
        "--all", action="store_true", help=f"a line for each layer, where there are more than {FEW} of them"
    )
    MAX_BYTES.add_to(parser)
    parser.add_argument("--json", action="store_true", help="for programs: everything, on standard output")


def run(args: argparse.Namespace) -> int:
    """Print a table that is read in five seconds, or JSON."""
    args.file = hub.local(args.file)
    info = inspect(args.file, max_bytes=parse_size(args.max_bytes, "--max-bytes") or LARGEST_MODEL)
    if args.json:
        print(json.dumps(as_json(args.file, info), indent=1))
        return 0
    console = make_wide_console(args)
    for part in (
        headline(args.file, info),
        _sections(info, console.width),
        _layers(rows_of(info, None if args.all else FEW), console.width),
        _by_themselves(info),
        f"[dim]SHA-256 {info.sha256} checked; weights are read by {escape(reader_name())}[/]",
    ):
        if part is not None:
            console.print(part, soft_wrap=isinstance(part, str) and not console.is_terminal)
            console.print()
    return 0


def headline(path: Path, info: FileInfo) -> str:
    """Return what a person wants to know first: what network, which scheme, how large."""
    seen = seen_of(info.scheme)
    return (
        f"[bold]{escape(str(path))}[/]  {escape(network_name(info))}, "
        f"scheme [bold]{escape(scheme_name(info.scheme))}[/]\n"
        f"[bold cyan]{info.bytes:,} B[/]  [bold]{info.ratio:.1f}×[/] smaller than {info.float_bytes:,} B of weights, "
        f"[bold]{info.bits_per_weight:.2f}[/] bits a weight\n"
        f"[dim]{escape(precision_of(info))}; format {info.format[0]}.{info.format[1]}[/]"
        + (f"\n{escape(seen)}" if seen else "")
    )


def _sections(info: FileInfo, width: int) -> Table:
    table = make_table(
        ("section", "left"), ("bytes", "right"), ("share", "right"), ("bits/weight", "right"), ("", "left")
    )
    table.add_column("CRC-32", style="dim")
    room = min(MAX_BAR, max(8, width - 64))
    largest = max(info.sections.values())
    for name, count in info.sections.items():
        table.add_row(
            NAME_OF_SECTION[name],
            f"{count:,}",
            f"{count / info.bytes:.1%}",
            f"{bits_per_weight(count, info.numbers):.2f}",
            Text(bar(count / largest, room), style=COLOURS.get(name, "")),
            f"{info.crc32[name]:08x}" if name in info.crc32 else "",
        )
    table.add_row("[bold]file[/]", f"[bold]{info.bytes:,}[/]", "", f"[bold]{info.bits_per_weight:.2f}[/]")
    return table


def _layers(rows: list[Row], width: int) -> Table:
    headings = ("layer", "stored as", "shape", "bytes", "bits/weight")
    bits = [f"{row.bits_per_weight:.2f}" if row.numbers else "" for row in rows]
    lines = [(row.name, row.what, row.extent, f"{row.bytes:,}", b) for row, b in zip(rows, bits, strict=True)]
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    room = min(MAX_BAR, width - min(widths[0], MAX_NAME) - sum(widths[1:]) - GAP * len(widths))
    table = make_table(*zip(headings, ("left", "left", "right", "right", "right"), strict=True))
    table.columns[0].overflow = "fold"
    most = max((row.bytes for row in rows), default=1) or 1
    for row, (name, *others) in zip(rows, lines, strict=True):
        bars = [stacked(row.parts, most, room)] if room >= MIN_BAR else []
        table.add_row(*map(escape, (name, *others)), *bars)
    return table


def _by_themselves(info: FileInfo) -> Table | None:
    reasons = by_reason(info.tensors)
    if not reasons:
        return None
    table = make_table(
        ("no references stand for", "left"), ("because it is", "left"), ("bytes", "right"), ("share", "right")
    )
    table.columns[0].overflow = "fold"
    for reason, tensors in reasons.items():
        what = tensors[0].name if len(tensors) == 1 else f"{tensors[0].name} and {len(tensors) - 1} more"
        count = sum(tensor.bytes for tensor in tensors)
        table.add_row(escape(what), escape(reason), f"{count:,}", f"{count / info.bytes:.1%}")
    return table


def bar(share: float, room: int) -> str:
    """Return a bar of up to `room` characters, in eighths of one; what is there at all is never drawn as nothing."""
    eighths = max(round(8 * room * share), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def stacked(parts: dict[str, int], most: int, room: int) -> Text:
    """Return a bar in the colours of the sections, `room` characters for `most` bytes."""
    text, done, drawn = Text(), 0, 0
    for section, count in parts.items():
        done += count
        end = round(room * done / most)
        text.append("█" * (end - drawn), style=COLOURS.get(section, ""))
        drawn = max(drawn, end)
    if not drawn and done:
        text.append("▏", style=COLOURS.get(next(iter(parts)), ""))
    return text
