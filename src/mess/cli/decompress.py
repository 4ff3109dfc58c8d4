"""`mess decompress`: a `.mess` file becomes ordinary weights, an ONNX model or C."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.markup import escape

from mess import hub
from mess.cli.flags import FORCE
from mess.cli.output import make_console
from mess.export import FORMATS, export
from mess.files import check_output

EXAMPLES = """Examples:
  mess decompress net.mess -o net.safetensors
  mess decompress net.mess -o net.pth
  mess decompress net.mess -o net.onnx    # networks of the zoo, and what came as ONNX
  mess decompress net.mess -o net.c       # C99: the file as an array, with its decoder
  mess decompress net.mess -o plain.mess  # for readers without zstd and the zoo: mess.h, browsers"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess decompress`."""
    parser.add_argument("file", metavar="FILE.mess", type=Path, help="what is read")
    endings = ", ".join(FORMATS)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help=f"what it becomes: ends in {endings}"
    )
    FORCE.add_to(parser)


def run(args: argparse.Namespace) -> int:
    """Decode and write; the ending says in which form."""
    check_output(args.output, overwrite=args.force, source=args.file)
    written = export(hub.local(args.file), args.output)
    console = make_console(args)
    console.print(f"[bold]{escape(str(args.output))}[/]  {written.bytes:,} B", soft_wrap=True)
    for note in written.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    return 0
