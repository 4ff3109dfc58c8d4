"""Trainings that are measured: each a command of `mess train`, run where it is missing, resumed where it stopped.

    python benchmarks/runs.py --datapath ../data --list                 # what is not trained yet
    python benchmarks/runs.py --datapath ../data -C resnet20-v4-0.5-100 # these, in turn, on a GPU

Runs lie in benchmarks/.networks/runs, in NAME/DATA as `mess train --name NAME` puts them; a run whose log has all of
its epochs is taken as it is, wherever it was trained.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import ROOT, setting
from mess.files import atomic_write
from mess.storing.options import StoreOptions

FOLDER = ROOT / "benchmarks" / ".networks"
CIFAR_WEIGHTS = Path(os.environ.get("CIFAR_WEIGHTS", ROOT.parent / "shared" / "weights"))
RESNET20, RESNET56 = "-a resnet --layers 20", "-a resnet --layers 56"
WIDE = "-a wideresnet --layers 16 --width-mult 4"
IMAGENET_INPUT = "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        network, method, setting: the row of its file; method is "float" for a run that only other rows start from.
        flags: of `mess train`, beside those of every run; WEIGHTS stands for the folder of public weights.
        file: what comes of it.
        arch: flags that name the network.
        first: the command that makes what it starts from, if any; START stands for that file.
        on_gpu: it takes from hours to days on two cores, and is only begun on a GPU.
    """

    name: str
    network: str
    method: str
    setting: str
    flags: str
    epochs: int
    data: str = "cifar10"
    file: str = "ckpt_best.pth"
    arch: str = RESNET20
    first: str = ""
    on_gpu: bool = False

    @property
    def folder(self) -> Path:
        return FOLDER / "runs" / self.name / self.data

    @property
    def path(self) -> Path:
        """The file of the finished run."""
        return self.folder / self.file

    @property
    def command(self) -> str:
        """The command as a reader types it."""
        return f"mess train {self.data} {self.arch} {self.flags} --epochs {self.epochs} --name {self.name}"

    def log(self) -> list[dict[str, str]]:
        """Return what the run has logged so far, a row an epoch."""
        path = self.folder / "log.csv"
        return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []

    def done(self) -> bool:
        return len(self.log()) >= self.epochs and self.path.exists()

    def finish(self, datapath: Path, *, cuda: bool = False) -> None:
        """Train what is not trained yet; the commit, the machine and the card that a run begins on are kept beside."""
        if self.done():
            return
        if (self.folder / "ckpt_last.pth").exists():  # the other flags are in the checkpoint
            flags = ["train", self.data, *self.arch.split(), "--name", self.name, "-R"]
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            card = {"card": torch.cuda.get_device_name()} if cuda else {}
            atomic_write(self.folder / "setting.json", json.dumps({**setting(), **card}).encode())
            if self.first and not self._start.exists():
                _mess([*self._words(self.first), "--datapath", str(datapath)])
            flags = self._words(self.command)
        places = ["--checkpoints", str(FOLDER / "runs"), "--datapath", str(datapath)]
        _mess([*flags, *places, *(["-C"] if cuda else [])])

    @property
    def _start(self) -> Path:
        return self.folder / "start.mess"

    def _words(self, command: str) -> list[str]:
        return shlex.split(command.replace("WEIGHTS", str(CIFAR_WEIGHTS)).replace("START", str(self._start)))[1:]

    def facts(self) -> dict[str, Any]:
        """Return what its row says of the training: epochs, seconds by the clock, what it began on."""
        path = self.folder / "setting.json"
        began = json.loads(path.read_text()) if path.exists() else {}
        card = {"card": began["card"]} if "card" in began else {}
        seconds = round(float(self.log()[-1]["total_seconds"]))
        return {"epochs": self.epochs, "train_seconds": seconds, "trained": began.get("commit"), **card}


def _mess(words: list[str]) -> None:
    try:
        subprocess.run([sys.executable, "-m", "mess", *words], check=True)
    except (subprocess.CalledProcessError, KeyboardInterrupt) as error:  # the command itself has said why
        raise SystemExit(f"stopped: mess {shlex.join(words)}") from error


def _retrained(version: str, way: str, flags: str) -> Run:
    few_bits = "--scale-bits 8 --offset-bits 8 --rest-bits 16"
    start = f"--ckpt WEIGHTS/resnet20-12fca82f.th --lr 0.02 -s 1 {IMAGENET_INPUT}"
    return Run(
        f"resnet20-{version}-{way}", "ResNet-20", version, f"retrained, {flags or 'through the decoder'}, 2 epochs",
        f"-T -v {version} {few_bits} {start} {flags}".strip(), 2, file=f"ckpt_best_{StoreOptions(version).tag}_r1.mess",
    )  # fmt: skip


def _scratch(version: str, penalty: str) -> Run:
    name = f"resnet20-scratch{f'-{version}' if version else ''}{penalty.replace(' --', '-')}"
    scheme = f"-N -v {version} --scale-bits 8 --offset-bits 8 --rest-bits 16 -s 1{penalty} " if version else ""
    return Run(
        name, "ResNet-20 from scratch", version or "float", f"from scratch{penalty}, 8 epochs" if version else "",
        f"{scheme}--lr 0.2 --schedule onecycle --precision bf16", 8,
        file=f"ckpt_best_{version}.mess" if version else "ckpt_best.pth",
    )  # fmt: skip


NETWORKS = {  # name, flags, file, mean and std
    "resnet20": ("ResNet-20", RESNET20, "resnet20-12fca82f.th", f" {IMAGENET_INPUT}"),
    "resnet56": ("ResNet-56", RESNET56, "resnet56-4bfd9763.th", f" {IMAGENET_INPUT}"),
    "wide": ("WRN-16-4", WIDE, "wideresnet16-4-cifar10-fp16.pth", ""),
}
MOST_EPOCHS = {"resnet20": 40}  # through version 4 without a GPU: 100 minutes on one core, in bf16; of others none


def _priced(short: str, weight: str, epochs: int, *, teacher: str = "", more: str = "") -> Run:
    """Return a training through version 4, from a float network that is followed.

    Of its files the last one counts: it was not chosen on the test images.

    Args:
        teacher: the network that is followed in its place. It starts from a file then, which says the mean and std of
            its own, so that each sees images in its own way.
    """
    network, arch, weights, inputs = NETWORKS[short]
    told, first = f"rate weight {weight}, {epochs} epochs", ""
    flags = f"--ckpt WEIGHTS/{weights}{inputs}"
    if teacher:
        first = f"mess compress WEIGHTS/{weights} --calibration cifar10{inputs} --divergence 0.1 -o START"
        flags, told = f"--ckpt START --teacher WEIGHTS/{NETWORKS[teacher][2]}", f"{told}, from a file"
        told += f", of {NETWORKS[teacher][0]}" if teacher != short else ""
    return Run(
        f"{short}-v4-{weight}-{epochs}{f'-of-{teacher}' if teacher else ''}", network, "v4, retrained", told,
        f"-N -v v4 {flags} --rate-weight {weight} -s 100{more}", epochs, file=f"ckpt_epoch_{epochs}_v4.mess", arch=arch,
        first=first, on_gpu=epochs > MOST_EPOCHS.get(short, 0),
    )  # fmt: skip


VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a")
CIFAR100 = Run(
    "resnet20", "ResNet-20, CIFAR-100", "float", "", "--lr 0.2 --schedule onecycle -s 100", 24, "cifar100"
)  # fmt: skip
SCRATCH = _scratch("", "")
FLOATS = (CIFAR100, SCRATCH)
RUNS = (
    _priced("resnet20", "2", 8),
    _priced("resnet20", "0.7", 40, more=" --precision bf16"),
    *(_priced("resnet20", weight, 100) for weight in ("0.25", "0.5", "0.7", "1")),
    _priced("resnet20", "1", 100, teacher="wide"),
    _priced("resnet56", "0.5", 60, teacher="resnet56"),
    _priced("resnet56", "1", 60, teacher="wide"),
    *(_priced("wide", weight, 40, teacher="wide", more=" --precision bf16") for weight in ("1", "4")),
    *(_retrained(version, way, flags) for way, flags in (("decoder", ""), ("project", "--project"))
      for version in ("v2", "v2a", "v3a")),
    *(_scratch("v2", penalty) for penalty in ("", " --nl", " --pl")),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("-C", "--cuda", action="store_true", help="on a GPU")
    parser.add_argument("--list", action="store_true", help="print the trainings that are not done, and train none")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of trainings (default: all)")
    args = parser.parse_args()
    for run in (*FLOATS, *RUNS):
        if args.names and run.name not in args.names:
            continue
        if not args.list:
            run.finish(args.datapath, cuda=args.cuda)
        elif not run.done():
            print(f"{run.name}: {run.command}")


if __name__ == "__main__":
    main()
