"""`mess train-all`, the specification's `run.sh` and `run_cifar.sh`: every network on every dataset.

Each run is an ordinary `mess train` in a process of its own, so that one that fails takes none with it; what it says
goes to `train.log` in its folder, `checkpoint/NAME/DATA`, and one line of it here. What is finished is skipped, what
was begun is resumed.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from mess.cli.flags import add_more_flags, add_specified_flags
from mess.cli.output import make_console
from mess.display.durations import clock
from mess.errors import CheckpointError, OptionError

if TYPE_CHECKING:
    from mess.models import Architecture
    from mess.recipes import Job

EXAMPLES = """Examples:
  mess train-all --dry-run                   say what would be trained, and how
  mess train-all -C -b 256                   everything, on a GPU
  mess train-all cifar10 cifar100            what run_cifar.sh does
  mess train-all cifar10 -a resnet -N -v v2  all ResNets, through the decoder"""
OF_ONE_RUN = ("ckpt", "resume", "evaluate", "retrain", "layers", "groups", "name", "teacher")
EXIT_FAILED = 1
LOG = "train.log"
# options that change nothing of what a run comes to
NO_MATTER = {"epochs", "print_freq", "save_every", "log", "eager", "deterministic"}


@dataclass(frozen=True)
class Planned:
    """One run.

    Attributes:
        words: of its command, behind `mess`.
        job: what it will be.
        state: of its newest checkpoint.
        changes: which of the flags that were typed are otherwise in that state, a line each.
    """

    words: list[str]
    job: Job
    state: dict[str, Any] | None
    changes: list[str]

    @property
    def title(self) -> str:
        """Network and dataset, in columns."""
        return escape(f"{self.job.folder.parent.name:<18} {self.job.folder.name:<9}")

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train; another network in the folder is for `mess train -R` to refuse."""
        state = self.state
        same = state is not None and state["architecture"] == self.job.architecture.to_dict()
        return state is not None and same and state["epoch"] >= self.job.options.epochs

    @property
    def todo(self) -> str:
        """What will be done with it."""
        if self.finished:
            return "other" if self.changes else "finished"
        return "resume" if self.state else "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess train`, which every run gets, and our own."""
    add_specified_flags(parser, several=True)
    group = parser.add_argument_group("series")
    group.add_argument("--dry-run", action="store_true", help="only say what would be trained, and how")
    add_more_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train one after the other; exit code 1 if any failed, 130 or 143 after a signal."""
    from mess.models import networks

    for name in OF_ONE_RUN:
        if name in args.explicit:
            raise OptionError(args.explicit[name][0], "a flag of all runs", "one of a single run: use `mess train`")
    console = make_console(args, soft_wrap=True)
    planned = [plan(args, network) for data in args.data for network in networks(data) if network.arch in args.arch]
    if args.dry_run:
        for one in planned:
            console.print(f"{one.todo + ':':<9} mess {shlex.join(one.words)}", markup=False)
        return 0
    failed = []
    for one in planned:
        if one.todo == "other":
            told = f"finished before, and not as asked: {escape('; '.join(one.changes))}"
            console.print(f"{one.title} [bold red]not trained[/], {told}. --checkpoints FOLDER trains it anew")
            failed.append(" ".join(one.title.split()))
            continue
        if one.finished:
            console.print(f"{one.title} finished before: {scores(one.state)}")
            continue
        for change in one.changes:
            console.print(f"{one.title} goes on: {escape(change)}")
        code, stopped = execute(one, console)
        if stopped:
            console.print(f"{one.title} stopped; the same command goes on from here")
            return 128 + stopped
        said = scores(newest(one.job.folder)) if code == 0 else f"[bold red]failed[/] ({code}): {last_words(one)}"
        console.print(f"{one.title} {said}")
        if code:
            failed.append(" ".join(one.title.split()))
    if failed:
        console.print(f"[bold red]{len(failed)} of {len(planned)} runs failed:[/] {', '.join(failed)}")
        return EXIT_FAILED
    console.print(f"[bold green]all {len(planned)} runs are finished[/]")
    return 0


def plan(args: argparse.Namespace, network: Architecture) -> Planned:
    """Return the run of one network; what the flags ask for is checked before anything starts."""
    from mess.cli.train import to_job
    from mess.recipes import changes_of

    sizes = {"layers": network.layers, "width_mult": args.width_mult}
    if "width_mult" not in args.explicit:
        sizes["width_mult"] = network.width_mult
    own = argparse.Namespace(**{**vars(args), "data": network.dataset, "arch": network.arch, **sizes})
    job = to_job(own)
    tag = job.scheme.store.tag if job.scheme.store is not None else job.scheme.version
    job = replace(job, name="-".join([job.architecture.slug, *([tag] if tag else [])]))
    words = ["train", network.dataset, "-a", network.arch, "--name", str(job.name)]
    if network.layers is not None:
        words += ["--layers", str(network.layers)]
    if sizes["width_mult"] != 1.0:
        words += ["--width-mult", str(sizes["width_mult"])]
    state = newest(job.folder)
    asked = replace(job, explicit=job.explicit - NO_MATTER)
    changes = changes_of(asked, state) if state is not None else []
    ours = {"data", "arch", "width_mult", "dry_run"} | ({"pretrained"} if state else set())  # it has its own weights
    for name, typed in args.explicit.items():
        if name not in ours:
            words += typed
    return Planned(words + (["-R"] if state else []), job, state, changes)


def newest(folder: Path) -> dict[str, Any] | None:
    """Return the newest whole checkpoint of a folder without its tensors, or None."""
    from mess.training.checkpoint import load_newest

    try:
        _, checkpoint = load_newest(folder, lambda _: None)
    except CheckpointError:
        return None
    heavy = ("state_dict", "optimizer", "ema")
    return {name: value for name, value in checkpoint.items() if name not in heavy}


def execute(one: Planned, console: Console) -> tuple[int, int]:
    """Run `mess train` to its end and return its exit code, and the signal that we were sent, or 0.

    A signal is handed on as SIGTERM: the run saves its state and ends, also where the terminal has told it already.
    """
    from mess.training.signals import SignalWatch

    folder = one.job.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a") as log, SignalWatch() as watch:
        command = [sys.executable, "-m", "mess", *one.words]
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own words
        told = False
        try:
            with console.status(f"{one.title} starts") as status:
                while True:
                    try:
                        return child.wait(timeout=0.5), watch.received
                    except subprocess.TimeoutExpired:
                        show(one, status)
                    if watch.received and not told:
                        child.terminate()
                        told = True
        finally:
            if child.poll() is None:  # a second Ctrl-C
                child.kill()
                child.wait()


def show(one: Planned, status: Status) -> None:
    """Say which epoch the run has reached, as its `log.csv` tells."""
    try:
        lines = (one.job.folder / "log.csv").read_text(encoding="utf-8").splitlines()
    except OSError:  # no epoch is done yet
        return
    rows = list(csv.DictReader(lines))
    if rows:
        status.update(f"{one.title} epoch {rows[-1]['epoch']} of {rows[-1]['epochs']}, best {rows[-1]['best_top1']}%")


def scores(state: dict[str, Any] | None) -> str:
    """Return the summary of a run that is finished."""
    if state is None:
        return "no checkpoint was kept"
    best = f"best [bold]{state['best_top1']:.2f}%[/] (epoch {state['best_epoch']})"
    return f"{best}, {state['epoch']} epochs, {clock(state['seconds'])}"


def last_words(one: Planned) -> str:
    """Return the error a run ended with, and where the rest is."""
    log = one.job.folder / LOG
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{escape(lines[-1].removeprefix('mess: ')) if lines else 'it said nothing'}; see {escape(str(log))}"
