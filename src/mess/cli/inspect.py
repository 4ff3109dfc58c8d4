"""`mess inspect`: what a `.mess` file holds, every byte accounted for."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mess.codec import FileInfo
from mess.inspection import inspect

EXAMPLES = """examples:
  mess inspect net.mess
  mess inspect net.mess --json"""
BAR = 28  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess inspect`."""
    parser.add_argument("file", metavar="FILE.mess", type=Path)
    parser.add_argument("--json", action="store_true", help="for programs: everything, on standard output")


def run(args: argparse.Namespace) -> int:
    """Print a table that is read in five seconds, or JSON."""
    info = inspect(args.file)
    if args.json:
        print(json.dumps(asdict(info) | {"bits_per_weight": info.bits_per_weight}, indent=1))
        return 0
    console = Console(highlight=False)
    console.print(headline(args.file, info))
    console.print(f"[dim]SHA-256 {info.sha256}[/]\n", soft_wrap=True)
    console.print(_sections(info))
    console.print()
    console.print(_tensors(info))
    return 0


def headline(path: Path, info: FileInfo) -> str:
    """Return one line: what network, which scheme, how large."""
    network = info.network
    name = "weights of a network of its own"
    if network is not None:
        layers = network.get("layers") or ""
        name = f"{network.get('arch')}{layers} for {network.get('dataset')}, {network.get('num_classes')} classes"
    scheme = ", ".join(f"{key} {value}" for key, value in info.scheme.items() if key != "version")
    version = info.scheme.get("version", "none") + (f" ({scheme})" if scheme else "")
    return (
        f"[bold]{path}[/]  {name}, scheme [bold]{version}[/]\n"
        f"[bold]{info.bytes:,} B[/] for {info.numbers:,} numbers, {info.bits_per_weight:.2f} bits each; "
        f"format {info.format[0]}.{info.format[1]}"
    )


def _sections(info: FileInfo) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("section", "bytes", "share", ""):
        table.add_column(heading, justify="left" if heading in ("section", "") else "right")
    for name, count in info.sections.items():
        share = count / info.bytes
        table.add_row(name, f"{count:,}", f"{share:.1%}", f"[cyan]{'█' * round(BAR * share)}[/]")
    table.add_row("[bold]file[/]", f"[bold]{info.bytes:,}[/]", "", "")
    return table


def _tensors(info: FileInfo) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("tensor", overflow="fold")
    table.add_column("stored")
    for heading in ("shape", "bytes", "bits each"):
        table.add_column(heading, justify="right")
    table.add_column("")
    most = max((tensor.bytes for tensor in info.tensors), default=1) or 1
    for tensor in info.tensors:
        shape = "×".join(map(str, tensor.shape)) or "1"
        bits = f"{tensor.bits_per_weight:.2f}" if tensor.numbers else "–"
        bar = f"[cyan]{'█' * round(BAR / 2 * tensor.bytes / most)}[/]"
        table.add_row(tensor.name, tensor.stored, shape, f"{tensor.bytes:,}", bits, bar)
    return table
