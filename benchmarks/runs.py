"""Trainings that are measured: each a command of `mess train`, run where it is missing, resumed where it stopped.

Runs lie in benchmarks/.networks/runs, in NAME/DATA as `mess train --name NAME` puts them; a run whose log has all of
its epochs is taken as it is, wherever it was trained.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import ROOT, setting
from mess.files import atomic_write

FOLDER = ROOT / "benchmarks" / ".networks"
CIFAR_WEIGHTS = Path(os.environ.get("CIFAR_WEIGHTS", ROOT.parent / "shared" / "weights"))
NETWORK = "-a resnet --layers 20"
IMAGENET_INPUT = "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"


@dataclass(frozen=True)
class Run:
    """One training of a ResNet-20.

    Attributes:
        network, method, setting: the row of its file; method is "float" for a run that only other rows start from.
        flags: of `mess train`, beside those of every run; WEIGHTS stands for the folder of public weights.
        file: what comes of it.
    """

    name: str
    network: str
    method: str
    setting: str
    flags: str
    epochs: int
    data: str = "cifar10"
    file: str = "ckpt_best.pth"

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
        return f"mess train {self.data} {NETWORK} {self.flags} --epochs {self.epochs} --name {self.name}"

    def log(self) -> list[dict[str, str]]:
        """Return what the run has logged so far, a row an epoch."""
        path = self.folder / "log.csv"
        return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []

    def done(self) -> bool:
        return len(self.log()) >= self.epochs and self.path.exists()

    def finish(self, datapath: Path) -> None:
        """Train what is not trained yet; the commit that a run begins on is kept beside it."""
        if self.done():
            return
        if (self.folder / "ckpt_last.pth").exists():  # the other flags are in the checkpoint
            flags = ["train", self.data, *NETWORK.split(), "--name", self.name, "-R"]
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self.folder / "setting.json", json.dumps(setting()).encode())
            flags = shlex.split(self.command.replace("WEIGHTS", str(CIFAR_WEIGHTS)))[1:]
        places = ["--checkpoints", str(FOLDER / "runs"), "--datapath", str(datapath)]
        subprocess.run([sys.executable, "-m", "mess", *flags, *places], check=True)

    def facts(self) -> dict[str, Any]:
        """Return what its row says of the training: epochs, seconds by the clock, and the commit it began on."""
        path = self.folder / "setting.json"
        began = json.loads(path.read_text())["commit"] if path.exists() else None
        return {"epochs": self.epochs, "train_seconds": round(float(self.log()[-1]["total_seconds"])), "trained": began}


def _retrained(version: str, way: str, flags: str) -> Run:
    few_bits = "--scale-bits 8 --offset-bits 8 --rest-bits 16"
    start = f"--ckpt WEIGHTS/resnet20-12fca82f.th --lr 0.02 -s 1 {IMAGENET_INPUT}"
    return Run(
        f"resnet20-{version}-{way}", "ResNet-20", version, f"retrained, {flags or 'through the decoder'}, 2 epochs",
        f"-T -v {version} {few_bits} {start} {flags}".strip(), 2, file=f"ckpt_best_{version}_r1.mess",
    )  # fmt: skip


def _scratch(version: str, penalty: str) -> Run:
    name = f"resnet20-scratch{f'-{version}' if version else ''}{penalty.replace(' --', '-')}"
    scheme = f"-N -v {version} --scale-bits 8 --offset-bits 8 --rest-bits 16 -s 1{penalty} " if version else ""
    return Run(
        name, "ResNet-20 from scratch", version or "float", f"from scratch{penalty}, 12 epochs" if version else "",
        f"{scheme}--lr 0.2 --schedule onecycle", 12, file=f"ckpt_best_{version}.mess" if version else "ckpt_best.pth",
    )  # fmt: skip


def _priced(name: str, weight: str, epochs: int) -> Run:
    return Run(
        name, "ResNet-20", "v4, retrained", f"rate weight {weight}, {epochs} epochs",
        f"-N -v v4 --ckpt WEIGHTS/resnet20-12fca82f.th --rate-weight {weight} --lr 0.005 -s 100 {IMAGENET_INPUT}",
        epochs, file="ckpt_best_v4.mess",
    )  # fmt: skip


VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a")
CIFAR100 = Run(
    "resnet20", "ResNet-20, CIFAR-100", "float", "", "--lr 0.2 --schedule onecycle -s 100", 24, "cifar100"
)  # fmt: skip
SCRATCH = _scratch("", "")
RUNS = (
    _priced("resnet20-v4-mixed", "2", 8),
    *(_retrained(version, way, flags) for way, flags in (("decoder", ""), ("project", "--project"))
      for version in ("v2", "v2a", "v3a")),
    *(_scratch("v2", penalty) for penalty in ("", " --nl", " --pl")),
)  # fmt: skip
