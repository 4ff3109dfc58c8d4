"""`mess compress`: a checkpoint or any weights file becomes a `.mess` file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mess.cli.choices import store_options
from mess.cli.flags import VERSIONS, add_bit_flags, add_normalisation_flags
from mess.conversion import INPUT_FACTS
from mess.errors import OptionError
from mess.models import Architecture
from mess.storing import SizeReport, compress_with
from mess.training import load_weights

EXAMPLES = """examples:
  mess compress checkpoint/resnet/cifar10/ckpt_best.pth -v v2
  mess compress weights.pth -v v2a --scale-bits 8 --offset-bits 8 --rest-bits 8 -o small.mess
  mess compress weights.safetensors -v v3 -d 4 --pointwise 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess compress`."""
    parser.add_argument("ckpt", metavar="CKPT", type=Path, help="checkpoint, state dict (.pth, .th) or .safetensors")
    parser.add_argument("-v", "--version", metavar="VER", default="v2", help=f"{' | '.join(VERSIONS)} (default: v2)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: beside CKPT, NAME_VERSION.mess")
    parser.add_argument(
        "-d", "--bind-size", metavar="N", type=int, default=2, help="kernels a unit, v3 and v3a (default: 2)"
    )
    parser.add_argument(
        "--qb", "--quant-bit", dest="qb", metavar="N", type=int, default=8, help="bits, v2q (default: 8)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--no-verify", action="store_true", help="do not read the file back in a fresh process")
    parser.add_argument("--self-contained", action="store_true", help="keep names and shapes in the file in any case")
    add_bit_flags(parser)
    add_normalisation_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Store, read back, report."""
    options = store_options(args)
    output = args.output or args.ckpt.with_name(f"{args.ckpt.stem}_{options.tag}.mess")
    if output.exists() and not args.force:
        raise OptionError(output, "a new file name", "an existing file", "--force overwrites it")
    weights, about = load_weights(args.ckpt)
    described = about.get("architecture")
    console = Console(highlight=False)
    with console.status(f"storing {args.ckpt.name} as {options.tag}"):
        report = compress_with(
            weights,
            output,
            options,
            architecture=Architecture.from_dict(described) if described else None,
            about={name: value for name in INPUT_FACTS if (value := getattr(args, name)) is not None},
            overwrite=args.force,
            verify=not args.no_verify,
        )
    show(console, report, verified=not args.no_verify)
    return 0


def show(console: Console, report: SizeReport, *, verified: bool) -> None:
    """Say what was written, and what of the network no reference stands for."""
    console.print(
        f"[bold]{report.path}[/]  {report.bytes:,} B: {report.ratio:.2f}× smaller than {report.float_bytes:,} B of "
        "weights",
        soft_wrap=True,
    )
    if verified:
        console.print("[green]read back in a fresh process: every tensor as it should be[/]")
    table = Table(box=None, pad_edge=False)
    table.add_column("stored by reference")
    table.add_column("relative error", justify="right")
    for name, error in report.error.items():
        table.add_row(name, f"{error:.4f}")
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for name, reason in report.as_is:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.print(f"[dim]as it is ({reason}): {shown}[/]")
