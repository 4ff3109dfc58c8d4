"""`mess compress`: a checkpoint or any weights file becomes a `.mess` file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mess.cli.flags import KEY, add_bit_flags, add_normalisation_flags
from mess.cli.stages import Stages
from mess.errors import OptionError, first_few
from mess.files import check_output
from mess.names import DEFAULT_VERSION, DIVERGENCE, VERSIONS
from mess.sizes import parse_size

if TYPE_CHECKING:
    import torch

    from mess.storing import SizeReport

    Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]

EXAMPLES = """Examples:
  mess compress checkpoint/resnet/cifar10/ckpt_best.pth -v v2
  mess compress weights.pth -v v2a --scale-bits 8 --offset-bits 8 --rest-bits 8 -o small.mess
  mess compress weights.safetensors -v v3 -d 4 --pointwise 8
  mess compress weights.pth -v v4 --calibration cifar10 --datapath ../data
  mess compress weights.pth -v v4 --calibration cifar10 --target-size 60KB"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess compress`."""
    parser.add_argument(
        "ckpt", metavar="CKPT", type=Path, help="checkpoint, state dict (.pth, .th), .safetensors or .mess"
    )
    parser.add_argument(
        "-v",
        "--version",
        metavar="VER",
        default=DEFAULT_VERSION,
        help=f"{' | '.join(VERSIONS)} (default: {DEFAULT_VERSION})",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: beside CKPT, NAME_VERSION.mess")
    parser.add_argument(
        "-d", "--bind-size", metavar="N", type=int, default=2, help="kernels a unit, v3 and v3a (default: 2)"
    )
    parser.add_argument(
        "--qb", "--quant-bit", dest="qb", metavar="N", type=int, default=8, help="bits, v2q (default: 8)"
    )
    KEY.add_to(parser)
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--no-verify", action="store_true", help="do not read the file back in a fresh process")
    parser.add_argument("--self-contained", action="store_true", help="keep names and shapes in the file in any case")
    _add_learned_flags(parser)
    add_bit_flags(parser)
    add_normalisation_flags(parser)


def _add_learned_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("version v4")
    group.add_argument("--calibration", metavar="DATA", help="dataset or folder whose training images v4 looks at")
    group.add_argument("--datapath", metavar="PATH", type=Path, default=Path("../data"), help="default: ../data")
    group.add_argument(
        "--divergence",
        metavar="NATS",
        type=float,
        help="how far what the network says may stray, looked at before the file is written; smaller: larger files "
        f"(default: {DIVERGENCE:g})",
    )
    group.add_argument("--target-size", metavar="SIZE", help="size of the file: 90000, 90KB, 1.5MB")
    group.add_argument(
        "--max-drop",
        metavar="P",
        type=float,
        help="points of accuracy that may be lost, as measured on images that nothing is learned from",
    )


def run(args: argparse.Namespace) -> int:
    """Store, read back, report."""
    from mess.cli.choices import store_options
    from mess.data.info import check_normalisation
    from mess.models import Architecture
    from mess.nested_weights import told_of
    from mess.storing import Request, store
    from mess.storing.sources import input_facts, read_weights

    check_normalisation(args.mean, args.std)
    args.target_size = parse_size(args.target_size)
    options = store_options(args)
    if args.calibration is not None and options.scheme().fit != "learned":
        raise OptionError("--calibration", "a version that looks at images (-v v4)", args.version)
    output = args.output or args.ckpt.with_name(f"{args.ckpt.stem}_{options.tag}.mess")
    check_output(output, overwrite=args.force, source=args.ckpt)
    weights, about = read_weights(args.ckpt, args.key)
    described = about.get("architecture")
    given = {"mean": args.mean, "std": args.std}
    facts = input_facts(about | {name: value for name, value in given.items() if value is not None})
    console = Console(highlight=False)
    if (told := told_of(about)) is not None:
        console.print(escape(told), soft_wrap=True)
    with Stages(console, f"storing {args.ckpt.name} as {options.tag}") as stages:
        request = Request(
            options,
            calibration_images(args, about | facts),
            architecture=Architecture.from_dict(described) if described else None,
            about=facts,
            overwrite=args.force,
            verify=not args.no_verify,
            progress=stages,
        )
        report = store(weights, output, request)
    show(console, report, verified=not args.no_verify)
    return 0


def calibration_images(args: argparse.Namespace, about: Mapping[str, Any]) -> Batches | None:
    """Return the training images of the dataset that was named, prepared as the network's file says, and labels."""
    from mess.recipes import DataChoice, calibration_batches

    if args.calibration is None:
        return None
    prepared: dict[str, Any] = {name: about.get(name) for name in ("mean", "std", "resize", "crop")}
    return calibration_batches(DataChoice(args.calibration, args.datapath, **prepared))


def show(console: Console, report: SizeReport, *, verified: bool) -> None:
    """Say what was written, and what of the network no reference stands for."""
    console.print(
        f"[bold]{escape(str(report.path))}[/]  {report.bytes:,} B: {report.ratio:.2f}× smaller than "
        f"{report.float_bytes:,} B of weights",
        soft_wrap=True,
    )
    if report.look is not None:
        console.print(
            f"[{'bold red' if report.look.is_noise else 'green'}]{escape(str(report.look))}[/]", soft_wrap=True
        )
        if report.look.is_noise:
            console.print("[bold red]little is left of the network: ask for less, or retrain it (mess train -T)[/]")
    if verified:
        console.print("[green]read back in a fresh process: every tensor as it should be[/]")
    table = Table(box=None, pad_edge=False)
    table.add_column("stored by reference")
    table.add_column("relative error", justify="right")
    for name, error in report.error.items():
        table.add_row(escape(name), f"{error:.4f}")
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for name, reason in report.as_is:
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"[dim]as it is ({escape(reason)}): {escape(first_few(names, 4))}[/]")
