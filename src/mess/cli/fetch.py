"""`mess fetch` and the specification's `down_imagenet.py` and `down_ckpt.py`: datasets and public weights."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from mess import models
from mess.errors import DownloadError, OptionError, one_of
from mess.fetch import fetch_cifar, fetch_imagenet_parquet, load_pretrained, prepare_imagenet, public_weights
from mess.fetch.imagenet import TERMS
from mess.fetch.weights import save_weights

EXAMPLES = """examples:
  mess fetch cifar10
  mess fetch imagenet --source tar --archives ~/downloads
  mess fetch imagenet --source hf          (with a token in HF_TOKEN)
  mess fetch weights imagenet -a mobilenetv2 -o pretrained_model.pth
  mess fetch weights --list
  mess fetch weights --all -o pretrained"""
WHAT = ("cifar10", "cifar100", "imagenet", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess fetch`."""
    parser.add_argument("what", metavar="WHAT", help=" | ".join(WHAT))
    parser.add_argument("data", metavar="DATA", nargs="?", help="of weights: the dataset they were trained on")
    _add_datapath(parser)
    parser.add_argument("--offline", action="store_true", help="ask no server; only check what is there")
    imagenet = parser.add_argument_group("imagenet")
    imagenet.add_argument("--source", choices=("tar", "hf"), help="the official archives, or the Hugging Face Hub")
    imagenet.add_argument("--archives", metavar="PATH", type=Path, help="folder with the three official archives")
    imagenet.add_argument("-j", "--workers", metavar="N", type=int, default=4, help="threads that unpack (default: 4)")
    _add_weights_flags(parser)


def add_imagenet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `down_imagenet.py`."""
    parser.set_defaults(what="imagenet", data=None, offline=False)
    _add_datapath(parser, "Where you want to save ImageNet? (default: ../data)")
    parser.add_argument("--source", choices=("tar", "hf"), help="the official archives, or the Hugging Face Hub")
    parser.add_argument("--archives", metavar="PATH", type=Path, help="folder with the three official archives")
    parser.add_argument("-j", "--workers", metavar="N", type=int, default=4, help="threads that unpack (default: 4)")


def add_ckpt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `down_ckpt.py`."""
    parser.set_defaults(what="weights", datapath=None)
    parser.add_argument("data", metavar="DATA", nargs="?", help="the dataset they were trained on")
    parser.add_argument("--offline", action="store_true", help="ask no server; only check what is there")
    _add_weights_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch, check, unpack."""
    console = Console(highlight=False)
    if args.what not in WHAT:
        raise OptionError("WHAT", one_of(WHAT, args.what), args.what)
    if args.what == "weights":
        return _weights(args, console)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        told = _Told(bar)
        if args.what == "imagenet":
            where = args.datapath / "imagenet"
            _imagenet(args, where, told)
        else:
            where = fetch_cifar(args.what, args.datapath, progress=told, offline=args.offline)
    console.print(f"{args.what} is in [bold]{where}[/]")
    return 0


def _imagenet(args: argparse.Namespace, where: Path, told: _Told) -> None:
    if args.source == "tar" and args.archives is not None:
        prepare_imagenet(args.archives, where, workers=args.workers, progress=told)
    elif args.source == "hf" and (token := os.environ.get("HF_TOKEN")):
        fetch_imagenet_parquet(where, token, progress=told)
    else:
        missing = {"tar": "--archives", "hf": "a token in HF_TOKEN"}.get(args.source, "--source tar or hf")
        raise DownloadError("imagenet", missing, "none", TERMS)


def _weights(args: argparse.Namespace, console: Console) -> int:
    if args.list:
        for weights in public_weights():
            accuracy = f"{weights.top1:.2f}%" if weights.top1 is not None else "–"
            console.print(f"{weights.dataset:<9} {_named(weights):<34} {accuracy:>7}  {weights.licence}  {weights.url}")
        return 0
    if args.all:
        return _all_weights(args, console)
    if args.data is None:
        raise OptionError("DATA", "the dataset the weights were trained on", "none")
    architecture = models.resolve(
        args.arch, args.data, layers=args.layers, width_mult=args.width_mult, groups=args.groups
    )
    model = models.build(architecture)
    with Progress(console=console, transient=True) as bar:
        weights, _ = load_pretrained(model, progress=_Told(bar), offline=args.offline)
    output = args.output or Path(f"{architecture.slug}_{args.data}.pth")
    save_weights(model, weights, output)
    accuracy = f", {weights.top1}% as its source says" if weights.top1 is not None else ""
    console.print(f"wrote [bold]{output}[/]: {weights.source}{accuracy}, licence {weights.licence}")
    return 0


def _all_weights(args: argparse.Namespace, console: Console) -> int:
    """Fetch all there are into one folder; what cannot be had is named at the end."""
    folder = args.output or Path("pretrained")
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    with Progress(console=console, transient=True) as bar:
        for weights in public_weights():
            try:
                architecture = models.resolve(
                    weights.arch, weights.dataset,
                    layers=weights.layers, width_mult=weights.width_mult, groups=weights.groups,
                )  # fmt: skip
                model = models.build(architecture)
                load_pretrained(model, weights, progress=_Told(bar), offline=args.offline)
                output = folder / f"{weights.dataset}_{weights.file.partition('.')[0]}.pth"
                save_weights(model, weights, output)
                console.print(f"wrote [bold]{output}[/]")
            except DownloadError as error:
                failed.append(str(error))
    if failed:
        raise DownloadError(folder, f"{len(public_weights())} files", f"{len(failed)} failed", "; ".join(failed))
    return 0


def _named(weights: object) -> str:
    facts = {name: getattr(weights, name) for name in ("layers", "groups")}
    width = getattr(weights, "width_mult", 1.0)
    more = [f"--{name} {value}" for name, value in facts.items() if value is not None]
    return " ".join(["-a", getattr(weights, "arch", ""), *more, *([f"--width-mult {width}"] if width != 1.0 else [])])


def _add_datapath(parser: argparse.ArgumentParser, text: str = "where the datasets are (default: ../data)") -> None:
    parser.add_argument("--datapath", metavar="PATH", type=Path, default=Path("../data"), help=text)


def _add_weights_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("weights")
    group.add_argument("-a", "--arch", metavar="ARCH", default="mobilenet", help="the network (default: mobilenet)")
    group.add_argument("--layers", metavar="N", type=int, help="depth of ResNet, ResNeXt, WideResNet")
    group.add_argument("--width-mult", metavar="WM", type=float, default=1.0, help="width multiplier (default: 1.0)")
    group.add_argument("--groups", metavar="N", type=int, help="groups of ShuffleNet, cardinality of ResNeXt")
    group.add_argument("-o", "--output", metavar="FILE", type=Path, help="where they go")
    group.add_argument("--all", action="store_true", help="all there are, into the folder of --output")
    group.add_argument("--list", action="store_true", help="say which there are")


class _Told:
    """Shows what a download tells."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, object] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        group = name.partition("/")[0]
        if group not in self._tasks:
            self._tasks[group] = self._bar.add_task(group, total=total)
        self._bar.update(self._tasks[group], completed=done, total=total)  # type: ignore[arg-type]
