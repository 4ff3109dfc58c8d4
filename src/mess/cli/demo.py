"""`mess demo`: the main job once, on the dataset that needs no download."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from rich.markup import escape
from rich.rule import Rule
from rich.table import Table

from mess.cli.output import make_console, make_table
from mess.display.durations import clock

EXAMPLES = """Examples:
  mess demo
  mess demo -v v2a --output demo"""


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    name: str
    path: Path
    top1: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess demo`."""
    parser.add_argument("-v", "--version", metavar="VER", default="v2", help="version of the scheme (default: v2)")
    parser.add_argument("--epochs", metavar="N", type=int, default=12, help="epochs of training (default: 12)")
    parser.add_argument("--retrain-epochs", metavar="N", type=int, default=6, help="epochs of retraining (default: 6)")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=Path("demo"), help="default: demo")


def run(args: argparse.Namespace) -> int:
    """Train ResNet-20 on `digits`, store it, test it from the file, retrain it, and say what each step cost."""
    from mess import models
    from mess.cli.progress import ConsoleReporter
    from mess.foreign.weights_file import load_weights
    from mess.recipes import DataChoice, Job, SchemeChoice, run_job, score_network
    from mess.report import draw_references
    from mess.storing import Request, StoreOptions, read_references, store
    from mess.training import TrainOptions

    console = make_console(args)
    reporter = ConsoleReporter(console)
    options = StoreOptions(version=args.version, scale_bits=8, offset_bits=8, rest_bits=16)
    job = Job(
        data=DataChoice("digits", workers=0),
        architecture=models.resolve("resnet", "digits", layers=20),
        options=TrainOptions(
            epochs=args.epochs, batch_size=64, lr=0.1, warmup_epochs=warmup(args.epochs), save_epoch=args.epochs
        ),
        checkpoints=args.output / "checkpoint",
    )
    console.print(Rule(f"1. train ResNet-20 on digits, {args.epochs} epochs", align="left"))
    trained = run_job(job, reporter)
    float_path = job.folder / "ckpt_best.pth"

    console.print(Rule(f"2. store it with scheme {options.tag}, test the file itself", align="left"))
    file = job.folder / f"ckpt_best_{options.tag}.mess"
    stored = store(load_weights(float_path)[0], file, Request(options, architecture=job.architecture))
    before = score_network(job.data, job.architecture, str(file), reporter=reporter)
    reporter.message(f"{file}  {stored.bytes:,} B, top-1 {before.scores.top1:.2f}%")

    console.print(Rule(f"3. retrain through the stored form, {args.retrain_epochs} epochs", align="left"))
    again = replace(
        job,
        mode="retrain",
        ckpt=str(file),
        name=f"resnet-{options.tag}",
        options=replace(
            job.options,
            epochs=args.retrain_epochs,
            lr=0.02,
            warmup_epochs=warmup(args.retrain_epochs),
            save_epoch=2,
        ),
        scheme=SchemeChoice(store=options),
    )
    retrained = run_job(again, reporter)
    last = retrained.files[-1]
    after = score_network(job.data, job.architecture, str(last), reporter=reporter)
    reporter.close()

    refs_KU, uses_K = read_references(last)
    picture = args.output / "references.png"
    draw_references(refs_KU, uses_K, picture, title=f"ResNet-20 on digits, {options.tag}: what the kernels are made of")
    console.print(Rule("what it cost", align="left"))
    console.print(summary(stored.float_bytes, trained.fit.best_top1, [
        Row("stored", file, before.scores.top1),
        Row("stored, retrained", last, after.scores.top1),
    ]))  # fmt: skip
    console.print(f"\nthe references and how often each is used: [bold]{escape(str(picture))}[/]")
    console.print(f"the file, byte for byte: [bold]mess inspect {escape(str(last))}[/]", soft_wrap=True)
    seconds = trained.fit.seconds + retrained.fit.seconds
    console.print(f"[dim]α and β in 8 bits, the rest in 16; training took {clock(seconds)} in all[/]")
    return 0


def warmup(epochs: int) -> float:
    """Return epochs of warm-up: one, or half of a run that has no more."""
    return min(1.0, epochs / 2)


def summary(float_bytes: int, float_top1: float, rows: list[Row]) -> Table:
    """Return the table that ends the demo; every size of a file is the file system's."""
    table = make_table(("network", "left"), ("bytes", "right"), ("smaller", "right"), ("test top-1", "right"))
    table.add_row("float", f"{float_bytes:,}", "1.0×", f"{float_top1:.2f}%")
    for row in rows:
        size = row.path.stat().st_size
        table.add_row(escape(row.name), f"{size:,}", f"{float_bytes / size:.1f}×", f"{row.top1:.2f}%")
    return table
