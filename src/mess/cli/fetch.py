"""`mess fetch` and the specification's `down_imagenet.py` and `down_ckpt.py`: datasets and public weights."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)  # fmt: skip

from mess.cli.flags import DATAPATH, Flag, add_flags
from mess.cli.output import make_console
from mess.display.stages import SILENCE_S
from mess.errors import DownloadError, OptionError, one_of

if TYPE_CHECKING:
    from mess.fetch import Weights

EXAMPLES = """Examples:
  mess fetch cifar10
  mess fetch imagenet --archives ~/downloads     (the three official archives)
  mess fetch imagenet --source hf                (with a token in HF_TOKEN)
  mess fetch weights imagenet -a mobilenetv2 -o pretrained_model.pth
  mess fetch weights --list
  mess fetch weights --all -o pretrained"""
WHAT = ("cifar10", "cifar100", "imagenet", "weights")
WIDTH = 46  # of the flags that name a network, in characters
OFFLINE = Flag("--offline", "ask no server; only check what is there")
IMAGENET = (
    Flag(
        "--source", "the official archives, or the Hugging Face Hub (default: what is at hand)", choices=("tar", "hf")
    ),
    Flag("--archives", "folder with the official archives (default: PATH of --datapath)", "PATH", Path),
    Flag("-j --workers", "threads that unpack (default: 4)", "N", int, 4),
)
WEIGHTS = (
    Flag("-a --arch", "the network (default: mobilenet)", "ARCH", default="mobilenet"),
    Flag("--layers", "depth of ResNet, ResNeXt, WideResNet", "N", int),
    Flag("--width-mult", "width multiplier (default: 1.0)", "WM", float, 1.0),
    Flag("--groups", "groups of ShuffleNet, cardinality of ResNeXt", "N", int),
    Flag("--best", "the most accurate there are, in place of the usual ones"),
    Flag("-o --output", "where they go", "FILE", Path),
    Flag("--all", "all there are, into the folder of --output"),
    Flag("--list", "say which there are"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess fetch`."""
    parser.add_argument("what", metavar="WHAT", help=" | ".join(WHAT))
    parser.add_argument("data", metavar="DATA", nargs="?", help="of weights: the dataset they were trained on")
    DATAPATH.add_to(parser)
    OFFLINE.add_to(parser)
    add_flags(parser, "imagenet", IMAGENET)
    add_flags(parser, "weights", WEIGHTS)


def add_imagenet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `down_imagenet.py`."""
    parser.set_defaults(what="imagenet", data=None)
    replace(DATAPATH, help="Where you want to save ImageNet? (default: ../data)").add_to(parser)
    add_flags(parser, None, (OFFLINE, *IMAGENET))


def add_ckpt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `down_ckpt.py`."""
    parser.set_defaults(what="weights", datapath=None)
    parser.add_argument("data", metavar="DATA", nargs="?", help="the dataset they were trained on")
    OFFLINE.add_to(parser)
    add_flags(parser, "weights", WEIGHTS)


def run(args: argparse.Namespace) -> int:
    """Fetch, check, unpack."""
    console = make_console(args)
    if args.what not in WHAT:
        raise OptionError("WHAT", one_of(WHAT, args.what), args.what)
    {"weights": _weights, "imagenet": _imagenet}.get(args.what, _cifar)(args, console)
    return 0


def _cifar(args: argparse.Namespace, console: Console) -> None:
    from mess.data import open_dataset
    from mess.fetch import fetch_cifar

    with closing(_DownloadBar(console)) as bar:
        where = fetch_cifar(args.what, args.datapath, progress=bar, offline=args.offline)
    shown = escape(str(where))
    sizes = [len(open_dataset(args.what, args.datapath, train=part)) for part in (True, False)]
    console.print(f"{args.what} is in [bold]{shown}[/]: {sizes[0]:,} training and {sizes[1]:,} test images")


def _imagenet(args: argparse.Namespace, console: Console) -> None:
    """Take the source that is asked for, else the one that the user has a way to."""
    from mess.fetch import fetch_imagenet_parquet, prepare_imagenet
    from mess.fetch.imagenet import TERMS, TRAIN, count_imagenet
    from mess.fetch.parquet import hub_token

    console.print(TERMS + "\n", soft_wrap=True)
    where = args.datapath / "imagenet"
    if args.offline or not _is_ready(where):
        folders = [args.archives] if args.archives is not None else [args.datapath, where]
        archives = next((folder for folder in folders if (folder / TRAIN).is_file()), folders[0])
        token = hub_token()
        source = args.source or ("tar" if (archives / TRAIN).is_file() else "hf" if token else None)
        with closing(_DownloadBar(console)) as bar:
            if args.offline:
                count_imagenet(where)
            elif source == "tar":
                prepare_imagenet(archives, where, workers=args.workers, progress=bar)
            elif source == "hf" and token:
                fetch_imagenet_parquet(where, token, progress=bar)
            else:
                missing = "a token" if source == "hf" else f"the official archives in {archives}, or a token"
                hint = "Set HF_TOKEN" if source == "hf" else "Say where they are with --archives, or set HF_TOKEN"
                raise DownloadError("imagenet", missing, "none", hint)
    console.print(
        f"imagenet is in [bold]{escape(str(where))}[/]: 1,000 classes, 1,281,167 training and 50,000 validation images"
    )


def _is_ready(where: Path) -> bool:
    """Return whether all of it is there, so that the archives may be gone."""
    from mess.fetch.imagenet import count_imagenet

    try:
        count_imagenet(where)
    except DownloadError:
        return False
    return True


def _weights(args: argparse.Namespace, console: Console) -> None:
    from mess import models
    from mess.fetch import find_weights, public_weights

    if args.list:
        for weights in public_weights():
            accuracy = f"{weights.top1:.2f}%" if weights.top1 is not None else "–"
            network = f"{weights.dataset:<8}  {_flags_of(weights):<{WIDTH}}"
            console.print(f"{network}  {accuracy:>6}  {weights.licence:<12}  {weights.url}", soft_wrap=True)
        return
    if args.all:
        _all_weights(args, console)
        return
    if args.data is None:
        raise OptionError("DATA", "the dataset the weights were trained on", "none")
    architecture = models.resolve(
        args.arch, args.data, layers=args.layers, width_mult=args.width_mult, groups=args.groups
    )
    weights = find_weights(architecture, best=args.best)
    _save(weights, args.output or Path(f"{architecture.slug}_{args.data}.pth"), args.offline, console)


def _all_weights(args: argparse.Namespace, console: Console) -> None:
    """Fetch all there are into one folder; what cannot be had is named at the end."""
    from mess.fetch import public_weights

    folder = args.output or Path("pretrained")
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for weights in public_weights():
        try:
            name = Path(weights.file.removesuffix(".zip")).stem
            _save(weights, folder / f"{weights.dataset}_{name}.pth", args.offline, console)
        except DownloadError as error:
            failed.append(str(error))
    if failed:
        raise DownloadError(folder, f"{len(public_weights())} files", f"{len(failed)} failed", "; ".join(failed))


def _save(weights: Weights, output: Path, offline: bool, console: Console) -> None:
    """Fetch one file of weights and write it under our names."""
    from mess import models
    from mess.fetch import load_pretrained
    from mess.fetch.weights import save_weights

    facts = {name: getattr(weights, name) for name in ("layers", "width_mult", "groups")}
    model = models.build(models.resolve(weights.arch, weights.dataset, **facts))
    with closing(_DownloadBar(console)) as bar:
        load_pretrained(model, weights, progress=bar, offline=offline)
    save_weights(model, weights, output)
    accuracy = f", {weights.top1}% as its source says" if weights.top1 is not None else ""
    console.print(
        f"wrote [bold]{escape(str(output))}[/]: {weights.source}{accuracy}, licence {weights.licence}", soft_wrap=True
    )


def _flags_of(weights: Weights) -> str:
    """Return the flags that name a network."""
    facts = {"layers": weights.layers, "groups": weights.groups}
    more = [f"--{name} {value}" for name, value in facts.items() if value is not None]
    width = [f"--width-mult {weights.width_mult:g}"] if weights.width_mult != 1.0 else []
    return " ".join([f"-a {weights.arch}", *more, *width])


class _DownloadBar:
    """Shows what is fetched, its rate and the time that is left; where nobody watches, plain lines."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True)
        self._task: tuple[str, TaskID] | None = None
        self._said = time.monotonic()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if self._task is None or self._task[0] != name:
            if self._task is not None:
                self._bar.remove_task(self._task[1])
            self._task = name, self._bar.add_task(name, total=total)
        self._bar.update(self._task[1], completed=done, total=total)
        if self._bar.console.is_terminal:
            self._bar.start()
        elif time.monotonic() - self._said > SILENCE_S:
            self._said = time.monotonic()
            speed = self._bar.tasks[-1].speed or 0.0
            whole = f" of {total / 1e6:,.0f}" if total else ""
            text = f"{name}: {done / 1e6:,.0f}{whole} MB, {speed / 1e6:.1f} MB/s"
            self._bar.console.print(text, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar.live.is_started:
            self._bar.stop()
