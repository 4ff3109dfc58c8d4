"""`mess card`: the model card of a `.mess` file, with what it lost as measured."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

from rich.markup import escape

from mess import hub
from mess.cli.flags import DATAPATH, FORCE, Flag, add_flags, add_normalisation_flags
from mess.cli.output import make_console
from mess.errors import OptionError
from mess.files import atomic_write, check_output
from mess.inspection import inspect
from mess.model_card import Accuracy, Card
from mess.names import DATASETS

EXAMPLES = """Examples:
  mess card net.mess                                 on standard output
  mess card net.mess --test cifar10 -o README.md     accuracy measured first
  mess card net.mess --repo me/net --license mit     as it will lie on the hub"""

FLAGS = (
    Flag("file", "what is described", "FILE.mess", Path),
    Flag("-o --output", "where it goes (default: standard output)", "FILE", Path),
    FORCE,
    Flag("--json", "for programs: what stands at its top, on standard output"),
    Flag("--repo", "where on the hub the file will lie", "OWNER/NAME", default=""),
)
BEYOND = (  # what is said of a file beyond what it says itself
    Flag("--license", "licence of the network: mit, apache-2.0 (default: none)", "ID", default=""),
    Flag("--test", f"measure the accuracy on {', '.join(DATASETS)} or a folder of class folders", "DATA"),
    DATAPATH,
    Flag("-j --workers", "data loading workers (default: 8)", "N", int, 8),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess card`."""
    add_flags(parser, None, FLAGS)
    add_card_flags(parser)


def add_card_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is said of a file beyond what it says itself."""
    add_flags(parser, None, BEYOND)
    add_normalisation_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Measure if asked to, and write."""
    if args.output is not None and args.json:
        raise OptionError("--json", "standard output", f"-o {args.output}")
    path = hub.local(args.file)
    if args.output is not None:
        check_output(args.output, overwrite=args.force, source=path)
    if args.repo:
        from mess.hub.upload import check_repository

        args.repo = check_repository(args.repo)
    card = make_card(args, path, args.repo)
    if args.json:
        print(json.dumps(card.metadata(), indent=1))
    elif args.output is None:
        print(card)
    else:
        atomic_write(args.output, str(card).encode())
        told = escape(str(args.output))
        make_console(args).print(f"[bold]{told}[/]  the card of {escape(path.name)}", soft_wrap=True)
    return 0


def make_card(args: argparse.Namespace, path: Path, repo: str) -> Card:
    """Return the card of a file, its accuracy measured where that is asked for.

    Raises:
        FormatError: the file breaks docs/FORMAT.md.
        MessError: its children say what keeps the accuracy from being measured.
    """
    info = inspect(path)
    accuracy = None if args.test is None else _measured(args, path)
    return Card(path.name, info, repo, args.license, accuracy)


def _measured(args: argparse.Namespace, path: Path) -> Accuracy:
    from mess.cli.progress import ConsoleReporter
    from mess.recipes import DataChoice, score_stored

    if args.test not in DATASETS and not Path(args.test).is_dir():
        raise OptionError("--test", f"{', '.join(DATASETS)} or a folder of class folders", args.test)
    data = DataChoice(args.test, args.datapath, args.workers, args.mean, args.std)
    with closing(ConsoleReporter(make_console(args, stderr=True))) as reporter:
        scores = score_stored(data, path, reporter=reporter).scores
    name = args.test if args.test in DATASETS else Path(args.test).resolve().name
    return Accuracy(name, scores.top1, scores.top5, scores.samples)
