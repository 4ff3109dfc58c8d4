"""`mess reader`: which reader of `.mess` files serves, and the one in C, built where it is asked for."""

from __future__ import annotations

import argparse

from mess.cli.output import make_console
from mess.codec import native

EXAMPLES = """Examples:
  mess reader                          which one serves
  mess reader --build                  compile the one in C, once (needs a C compiler)
  MESS_READER=python mess test ...     not the one in C, this once"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess reader`."""
    parser.add_argument("--build", action="store_true", help="compile the reader in C into the user's cache")


def run(args: argparse.Namespace) -> int:
    """Build if asked to; say which reader serves and where it is."""
    console = make_console(args)
    if args.build:
        native.build()
    console.print(f"files are read by {native.reader_name()}", markup=False)
    if native.library() is not None:
        console.print(f"  {native.library_path()}", markup=False, soft_wrap=True)
    elif not args.build:
        console.print("  mess reader --build compiles one in C that is several times faster", markup=False)
    return 0
