"""`mess push`: a `.mess` file and its card into a repository of the Hugging Face hub. Nothing else here uploads."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.markup import escape

from mess.cli.card import add_card_flags, make_card
from mess.cli.output import make_console
from mess.errors import DataError, OptionError
from mess.hub import client
from mess.hub.upload import CARD, check_repository, upload

EXAMPLES = """Examples:
  mess push net.mess me/net --private
  mess push net.mess me/net --test cifar10 --license mit
  mess push net.mess me/net --card README.md"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess push`."""
    parser.add_argument("file", metavar="FILE.mess", type=Path, help="what is uploaded, under its own name")
    parser.add_argument("repo", metavar="OWNER/NAME", help="the repository; it is made where there is none")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument("--card", metavar="FILE", type=Path, help="the card (default: as `mess card` writes it)")
    parser.add_argument("--force", action="store_true", help=f"replace a {CARD} that the repository has")
    add_card_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Upload, and say where it is."""
    repo = check_repository(args.repo)
    client()  # before anything is measured
    if args.card is not None and args.test is not None:
        raise OptionError("--test", "a card that is made here", f"--card {args.card}")
    made = str(make_card(args, args.file, repo))
    card = made if args.card is None else _text_of(args.card)
    done = upload(args.file, repo, card, private=args.private, replace_card=args.force or args.card is not None)
    console = make_console(args)
    console.print(f"[bold]{escape(args.file.name)}[/] is at {escape(done.url)}", soft_wrap=True)
    if not done.card:
        console.print(f"[yellow]the repository has a {CARD}, which was left as it is: --force replaces it[/]")
    return 0


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(path, "a card, as text", "other bytes") from error
