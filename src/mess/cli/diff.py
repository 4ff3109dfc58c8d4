"""`mess diff`: two files of one network, layer by layer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from mess import hub
from mess.cli.output import make_table, make_wide_console
from mess.codec.rows import FEW
from mess.errors import first_few

if TYPE_CHECKING:
    from mess.storing.differences import Differences

EXAMPLES = """Examples:
  mess diff weights.pth weights_v4.mess
  mess diff a.mess b.mess --all
  mess diff model.onnx model.mess --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess diff`."""
    for name in "AB":
        parser.add_argument(name.lower(), metavar=name, type=Path, help=".mess, .onnx, or any file of weights")
    parser.add_argument("--all", action="store_true", help=f"a line for each tensor, where there are more than {FEW}")
    parser.add_argument("--json", action="store_true", help="for programs: everything, on standard output")


def run(args: argparse.Namespace) -> int:
    """Compare and print."""
    from mess.storing.differences import differences

    args.a, args.b = (hub.local(path, hub.WEIGHTS) for path in (args.a, args.b))
    found = differences(args.a, args.b)
    if args.json:
        print(json.dumps(_as_json(args, found), indent=1))
        return 0
    console = make_wide_console(args)
    console.print(
        f"[bold]{escape(str(args.a))}[/] {found.bytes[0]:,} B, [bold]{escape(str(args.b))}[/] {found.bytes[1]:,} B: "
        f"[bold cyan]{found.bytes[0] / found.bytes[1]:.2f}×[/]",
        soft_wrap=True,
    )
    changed = [tensor for tensor in found.tensors if tensor.error]
    worst = changed if args.all else sorted(changed, key=lambda tensor: -tensor.error)[:FEW]
    numbers = ("shape", "error", "bytes of A", "of B")
    table = make_table(("tensor", "left"), *((heading, "right") for heading in numbers))
    for tensor in (t for t in changed if t in worst):
        table.add_row(
            escape(tensor.name), "×".join(map(str, tensor.shape)), f"{tensor.error:.2g}",
            *(f"{size:,}" for size in tensor.bytes),
        )  # fmt: skip
    if changed:
        console.print(table)
    if len(worst) < len(changed):
        console.print(f"[dim]{len(changed) - len(worst)} more that moved less: --all[/]")
    console.print(f"{len(found.tensors) - len(changed)} of {len(found.tensors)} tensors are the same")
    for path, names in zip((args.a, args.b), found.only, strict=True):
        if names:
            console.print(f"[yellow]only in {escape(str(path))}: {escape(first_few(names))}[/]", soft_wrap=True)
    return 0


def _as_json(args: argparse.Namespace, found: Differences) -> dict[str, object]:
    return {
        "files": [str(args.a), str(args.b)],
        "bytes": list(found.bytes),
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "error": t.error, "bytes": list(t.bytes)} for t in found.tensors
        ],
        "only": [list(names) for names in found.only],
    }
