"""`mess test`: how right a network is, from a checkpoint or from the `.mess` file itself."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import asdict

from rich.markup import escape

from mess.cli.flags import add_more_flags, add_specified_flags
from mess.cli.idle import idle_in_tests, tell
from mess.cli.output import make_console
from mess.display.durations import clock
from mess.errors import OptionError

EXAMPLES = """Examples:
  mess test digits -a resnet --ckpt ckpt_best.pth
  mess test cifar10 -a resnet --ckpt ckpt_best_v2.mess --json
  mess test cifar10 -a resnet --layers 20 --ckpt resnet20.th --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the same flags as `mess train`: what trained a network also names it."""
    add_specified_flags(parser)
    parser.add_argument("--json", action="store_true", help="for programs: the scores, on standard output")
    add_more_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Test and print one line."""
    from mess.cli.choices import architecture, data_choice, device_choice
    from mess.cli.progress import ConsoleReporter
    from mess.recipes import run_folder, score_network

    if args.ckpt is None:
        raise OptionError("--ckpt", "what to test: a checkpoint or a .mess file", "none")
    told = getattr(args, "json", False)  # -E of `mess train` has no such flag
    console = make_console(args, stderr=told)
    tell(console, args, idle_in_tests(args))
    with closing(ConsoleReporter(console)) as reporter:
        network = architecture(args)
        tested = score_network(
            data_choice(args), network, args.ckpt, batch_size=args.batch_size, precision=args.precision,
            devices=device_choice(args), folder=run_folder(args.checkpoints, network, args.name), reporter=reporter,
            key=args.key,
        )  # fmt: skip
    scores = tested.scores
    if told:
        row = {"file": str(tested.path), "bytes": tested.path.stat().st_size, **asdict(scores)}
        print(json.dumps(row, indent=1))
        return 0
    console.print(
        f"{escape(str(tested.path))} ({tested.path.stat().st_size:,} B): top-1 [bold]{scores.top1:.2f}%[/], "
        f"top-5 {scores.top5:.2f}%, loss {scores.loss:.4f}, {scores.samples:,} images in {clock(scores.seconds)}",
        soft_wrap=not console.is_terminal,
    )
    return 0
