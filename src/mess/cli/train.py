"""`mess train` and the specification's `main.py`: train, resume, retrain, and with -E test."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from rich.markup import escape

from mess.cli import test
from mess.cli.flags import add_more_flags, add_specified_flags
from mess.cli.idle import idle_flags, tell
from mess.cli.output import make_console
from mess.display.durations import clock
from mess.errors import OptionError

if TYPE_CHECKING:
    from mess.recipes import Job

EXAMPLES = """Examples:
  mess train digits -a resnet --layers 20 --epochs 10
  mess train cifar10 -a mobilenet -C -g 0 1 2 3 -b 256
  mess train cifar10 -a mobilenet -R --ckpt ckpt_epoch_50.pth
  mess train cifar10 -a resnet --layers 20 -N -v v2 -s 5
  mess train cifar10 -a resnet --layers 20 -T -v v2 --ckpt ckpt_best_v2.mess --epochs 3
  mess train cifar10 -a resnet --layers 20 -N -v v4 --ckpt ckpt_best.pth --rate-weight 2 --epochs 10"""
# flag -> field of `TrainOptions`
OPTIONS = {
    name: name
    for name in (
        "epochs", "batch_size", "lr", "momentum", "schedule", "label_smoothing", "ema", "precision", "print_freq",
        "save_epoch", "save_every", "seed", "log", "sync_bn", "eager", "deterministic",
    )
} | {"wd": "weight_decay", "warmup": "warmup_epochs"}  # fmt: skip
# what a checkpoint remembers beside those, and a resume need not be told again
RECIPE = (
    "new", "retrain", "version", "bind_size", "nl", "nls", "pl", "pls", "quant", "qb", "project", "fixed_index",
    "rate_weight", "teacher", "scale_bits", "offset_bits", "rest_bits", "pointwise", "linear", "jitter",
    "layer_rules",
)  # fmt: skip
RATE_LR = 0.005  # of Adam, in steps of the integers
RETRAIN_LR = 0.01  # a network that is nearly right must not be thrown far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the specification's flags, then ours."""
    add_specified_flags(parser)
    add_more_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or test where -E says so; exit code 130 or 143 where a signal ended the run."""
    from mess.cli.progress import ConsoleReporter
    from mess.recipes import run_job

    if args.evaluate:
        return test.run(args)
    if args.resume:
        take_up_recipe(args)
    job = to_job(args)
    console = make_console(args)
    tell(console, args, idle_flags(args))
    with closing(ConsoleReporter(console)) as reporter:
        result = run_job(job, reporter)
    fit = result.fit
    if fit.exit_code:
        return fit.exit_code
    console.print(
        f"best epoch {fit.best_epoch}, top-1 [bold]{fit.best_top1:.2f}%[/]; "
        f"{clock(fit.seconds_per_epoch)} an epoch, {clock(fit.seconds)} in all"
    )
    for path in result.files:
        console.print(f"wrote [bold]{escape(str(path))}[/]  {path.stat().st_size:,} B", soft_wrap=True)
    return 0


def take_up_recipe(args: argparse.Namespace) -> None:
    """Give `args` the flags of the recipe that the checkpoint to resume was trained with, where none were typed.

    Raises:
        OptionError: -R beside -T, or a flag that makes another run.
        CheckpointError: nothing to resume.
    """
    from mess.cli.choices import architecture
    from mess.recipes import recipe_to_resume, refuse_other_scheme, run_folder

    if args.retrain:
        raise OptionError("--resume", "either -R or -T", "both")
    saved = recipe_to_resume(args.ckpt, run_folder(args.checkpoints, architecture(args), args.name))
    refuse_other_scheme({flag: getattr(args, flag) for flag in RECIPE if flag in args.explicit}, saved)
    for flag in RECIPE:
        if flag in saved and flag not in args.explicit:
            setattr(args, flag, saved[flag])
            args.explicit[flag] = []  # as good as typed


def to_job(args: argparse.Namespace) -> Job:
    """Turn the flags into a checked description of the run."""
    from mess.cli.choices import architecture, data_choice, device_choice, store_options
    from mess.recipes import Job, RateChoice, SchemeChoice
    from mess.training import TrainOptions

    if args.version is None and args.new:
        raise OptionError("--new", "a version of the scheme beside it (-v)", "none")
    store = store_options(args, idle_flags(args)) if args.version is not None else None
    learned = store is not None and store.scheme().learned
    if args.lr is None:
        args.lr = RATE_LR if learned else RETRAIN_LR if args.retrain else 0.1
    in_use = args.new or args.retrain
    return Job(
        data=data_choice(args),
        architecture=architecture(args),
        options=TrainOptions(**{option: getattr(args, flag) for flag, option in OPTIONS.items()}),
        devices=device_choice(args),
        scheme=SchemeChoice(
            store=store if in_use else None,
            project=args.project,
            fixed_index=args.fixed_index,
            nuclear=args.nls if args.nl else 0.0,
            pearson=args.pls if args.pl else 0.0,
            rounding_bits=args.qb if args.quant and not (in_use and store) else 0,
            rate=RateChoice(args.rate_weight, args.teacher) if in_use and learned else None,
        ),
        ckpt=args.ckpt,
        mode="resume" if args.resume else "retrain" if args.retrain else "train",
        checkpoints=args.checkpoints,
        key=args.key,
        name=args.name,
        pretrained=args.pretrained,
        recipe={flag: getattr(args, flag) for flag in RECIPE if flag in args.explicit},
        explicit=frozenset(option for flag, option in OPTIONS.items() if flag in args.explicit),
    )  # fmt: skip
