"""`mess decompress`: a `.mess` file becomes ordinary weights again."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from mess.errors import OptionError
from mess.storing import export

EXAMPLES = """examples:
  mess decompress net.mess -o net.safetensors
  mess decompress net.mess -o net.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess decompress`."""
    parser.add_argument("file", metavar="FILE.mess", type=Path)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="ends in .safetensors or .pth")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(args: argparse.Namespace) -> int:
    """Decode and write; the ending says in which form."""
    if args.output.exists() and not args.force:
        raise OptionError(args.output, "a new file name", "an existing file", "--force overwrites it")
    export(args.file, args.output)
    Console(highlight=False).print(f"[bold]{args.output}[/]  {args.output.stat().st_size:,} B")
    return 0
