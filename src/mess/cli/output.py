"""How much is said: `--quiet` and `--verbose`, the same for every verb.

Verbs print on a console that is made here; everything below them says what it does through `logging`, under ``mess``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING, Any

from mess.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LOG = logging.getLogger("mess")
PIPED_WIDTH = 120  # of tables where there is no terminal whose width could be asked
TIMED = "%(relativeCreated)7.0f ms  %(name)s: %(message)s"


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every verb has."""
    about = "say nothing but errors, and what --json and --csv ask for"
    parser.add_argument("--quiet", action="store_true", help=about)
    about = "say what is done, with times, on standard error; of an error, its origin"
    parser.add_argument("--verbose", action="store_true", help=about)


def set_up(args: argparse.Namespace) -> None:
    """Send what is logged to standard error: warnings, with --verbose all, with --quiet errors.

    Raises:
        OptionError: both flags.
    """
    if args.quiet and args.verbose:
        raise OptionError("--quiet", "one of --quiet and --verbose", "both")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(TIMED if args.verbose else "%(message)s"))
    for old in [one for one in LOG.handlers if getattr(one, "of_cli", False)]:
        LOG.removeHandler(old)
    handler.of_cli = True  # type: ignore[attr-defined]
    LOG.addHandler(handler)
    LOG.setLevel(logging.ERROR if args.quiet else logging.DEBUG if args.verbose else logging.WARNING)


def make_table(*columns: tuple[str, str]) -> Table:
    """Return a table without lines, with (heading, "left" or "right") for each column."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, justify in columns:
        table.add_column(heading, justify=justify, no_wrap=justify == "right")  # type: ignore[arg-type]
    return table


def make_console(args: argparse.Namespace, **options: Any) -> Console:
    """Return the console of a verb, with rich's `options`; silent with --quiet."""
    from rich.console import Console

    return Console(highlight=False, quiet=args.quiet, **options)


def make_wide_console(args: argparse.Namespace) -> Console:
    """Return a console for tables, which are not narrow where no terminal says how wide it is."""
    console = make_console(args)
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    return console
