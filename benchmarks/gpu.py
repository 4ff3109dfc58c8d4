"""Everything about MESS on a GPU, checked and timed in one go of at most six minutes.

    python benchmarks/gpu.py --datapath ../data            # CIFAR-10 as `mess fetch` lays it; random pictures else
    python benchmarks/gpu.py --device cpu --smoke          # try the program itself, anywhere, in a minute

In this order, so that what matters most is there when time runs out: `tests/test_cuda.py`; for each network, images a
second of a plain PyTorch loop (DataLoader over PIL images, float32), of a step captured by hand on images that are
there (the floor), of `mess train`, and of `mess train --eager`; what the schemes cost; ResNet-20 from nothing to the
accuracy of public weights, where CIFAR-10 is there; `mess compress -C` beside the CPU's; how long a command takes to
its first step; how many pictures are decoded for a GPU, and how many it takes. Ratios are of one run on one card.
Writes docs/results/gpu.json and gpu.md after each part; parts that found no time say so. Each part and each program
in it has a limit, in which its start-up counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from common import RESULTS, ROOT, read_rows, setting, write_page, write_rows
from gpu_loops import DECAY, MOMENTUM, RATE, Loop, floor, per_second, plain
from gpu_page import page
from gpu_storing import beside_the_cpu, imagenet_network
from limits import OutOfTimeError, limited
from mess import models
from mess.data import Batches, open_dataset
from mess.data.workers import usable_cores
from mess.models import Architecture
from mess.recipes import DataChoice, DeviceChoice, Job, RateChoice, SchemeChoice, run_job
from mess.recipes.sources import calibration_inputs, open_network
from mess.scheme.learned.inputs import natural_noise
from mess.storing import StoreOptions, compress
from mess.training import EpochReport, Reporter, StepReport, TrainOptions
from mess.training.checkpoint import BEST
from training import NETWORKS

NAME = "gpu"
LIMIT_S = 360
TARGET = 91.7  # percent, of ResNet-20 on CIFAR-10: what public weights have (the paper, arXiv 1512.03385, says 91.25)
PROGRAM_S = 25  # for one program to start and be timed
Warned = list[str]


class EnoughError(Exception):
    """A program has been timed for long enough."""


class Speed(Reporter):
    """Times what is trained from report to report, from the third on, and ends it after some seconds."""

    def __init__(self, seconds: float, batch: int) -> None:
        self.seconds, self.batch, self.warnings = seconds, batch, Warned()
        self.first: tuple[float, int] | None = None
        self.reports = self.samples = 0
        self.images_per_s = 0.0

    def step(self, report: StepReport) -> None:
        now, done = time.perf_counter(), ((report.epoch - 1) * report.steps + report.step) * self.batch
        self.reports += 1
        if self.reports == 3:
            self.first = (now, done)
        elif self.first is not None:
            since, before = self.first
            if now - since > self.seconds:
                self.images_per_s = (done - before) / (now - since)
                raise EnoughError

    def message(self, text: str, kind: str = "info") -> None:
        if kind == "warning":
            self.warnings.append(text)


class Program:
    """The parts, the clock they share, and the rows they fill."""

    def __init__(self, args: argparse.Namespace, data: DataChoice, scratch: Path) -> None:
        self.args, self.data, self.scratch = args, data, scratch
        self.cuda = args.device == "cuda"
        self.start = time.monotonic()
        self.rows: dict[str, Any] = read_rows(NAME) if args.go_on else {}
        self.rows["setting"] = {**setting(), "device": device_name(self.cuda), "data": data.name}
        self.seconds = 0.3 if args.smoke else 2.5
        self.workers = min(12, os.cpu_count() or 1) if self.cuda else 0
        self.batches = (16,) if args.smoke else (128, 512)
        names = [*NETWORKS]
        self.networks = names[:1] if args.smoke else names
        self.runs = 0

    def left(self) -> float:
        return self.args.limit - (time.monotonic() - self.start)

    def part(self, name: str, needs_s: float, work: Callable[[], Any]) -> None:
        """Do a part if there is time for it, write what is known, and never let one part stop the others."""
        began = time.monotonic()
        if name in self.rows:  # done before a part broke CUDA for its process
            return
        if self.args.parts and not name.startswith(tuple(self.args.parts)):
            return
        if self.left() < needs_s:
            found: Any = {"left out": f"{self.left():.0f} s were left, it takes {needs_s:.0f}"}
        else:
            try:
                with limited(min(self.left(), 3 * needs_s)):
                    found = work()
            except Exception as error:  # noqa: BLE001 - a GPU is there for minutes: all other parts count
                found = {"failed": f"{type(error).__name__}: {error}"[:500]}
        self.rows[name] = found
        self.rows["seconds"] = self.rows.get("seconds", {}) | {name: round(time.monotonic() - began, 1)}
        print(f"{time.monotonic() - self.start:6.1f} s  {name}: {json.dumps(found)[:600]}", flush=True)
        write_rows(NAME, self.rows)
        write_page(NAME, page(self.rows))
        if self.cuda and "CUDA error" in str(found.get("failed", "")):  # all that follows would fail here
            command = [sys.executable, *sys.argv, "--limit", str(self.left()), "--go-on"]
            os.execv(sys.executable, command)  # noqa: S606 - this very program

    def checks(self) -> dict[str, Any]:
        """Run the tests that need a GPU."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x" if self.args.smoke else "-q"]
        environment = with_sources()
        try:
            done = subprocess.run(
                [*command, "tests/test_cuda.py"], cwd=ROOT, capture_output=True, text=True, env=environment,
                timeout=max(60.0, 0.3 * self.left()),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            return {"passed": False, "last": str(error.stdout)[-3000:]}
        lines = done.stdout.strip().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return {"passed": done.returncode == 0, "last": lines[-1] if lines else done.stderr[-500:], "failed": failed}

    def architecture(self, name: str) -> Architecture:
        chosen = dict(NETWORKS[name])
        return models.resolve(chosen.pop("arch"), "cifar10", **chosen)

    def job(self, name: str, batch: int, precision: str, **more: Any) -> Job:
        self.runs += 1
        scheme, ckpt = more.pop("scheme", SchemeChoice()), more.pop("ckpt", None)
        options = TrainOptions(
            epochs=1000, batch_size=batch, lr=more.pop("lr", RATE), momentum=MOMENTUM, weight_decay=DECAY,
            precision=precision, print_freq=4 if self.args.smoke else 50, save_epoch=1000, **more,
        )  # fmt: skip
        return Job(
            self.data, self.architecture(name), options, DeviceChoice(cuda=self.cuda), scheme,
            checkpoints=self.scratch / str(self.runs), ckpt=None if ckpt is None else str(ckpt),
            mode="retrain" if ckpt is not None else "train",
        )  # fmt: skip

    def ours(self, job: Job) -> Speed:
        """Train with `mess train` until it has been timed."""
        speed = Speed(self.seconds, job.options.batch_size)
        try:
            with limited(min(PROGRAM_S, self.left())):
                run_job(job, speed)
        except EnoughError:
            pass
        except OutOfTimeError as error:
            speed.warnings.append(f"not timed: {error}")
        return speed

    def loops(self, name: str, batch: int) -> dict[str, Any]:
        """Return images a second of each loop."""
        half = "bf16"
        row: dict[str, Any] = {"batch": batch}
        loop = Loop(self.architecture(name), self.data, batch, self.workers, self.seconds, self.cuda)
        row["plain"] = round(plain(loop))
        row["floor"] = round(floor(loop))
        for label, precision, more in (
            ("mess train", half, {}),
            ("--eager", half, {"eager": True}),
            ("--deterministic", half, {"deterministic": True}),
            ("float32", "32", {}),
            ("fp16", "16", {}),
        ):
            if precision == "16" and not self.cuda:
                continue
            if label != "mess train" and (batch != self.batches[0] or name != self.networks[0]):
                continue
            speed = self.ours(self.job(name, batch, precision, **more))
            row[label] = round(speed.images_per_s)
            if speed.warnings:
                row[f"{label}: warnings"] = speed.warnings
        return row

    def schemes(self) -> dict[str, Any]:
        """Return images a second with the schemes beside a plain step, batch 128, float32."""
        name, batch = self.networks[0], self.batches[0]
        start = self.scratch / "start.mess"
        torch.manual_seed(0)
        network = models.build(self.architecture(name))
        compress(network, start, "v4", natural_noise(16, 32), architecture=self.architecture(name))
        ways = {
            "plain": {},
            "-N -v v2": {"scheme": SchemeChoice(store=StoreOptions("v2"))},
            "-N -v v3": {"scheme": SchemeChoice(store=StoreOptions("v3"))},
            "-N -v v2 --nl --pl": {"scheme": SchemeChoice(store=StoreOptions("v2"), nuclear=1.0, pearson=1.0)},
            "-N -v v4": {
                "scheme": SchemeChoice(store=StoreOptions("v4"), rate=RateChoice()), "ckpt": start, "lr": 0.01,
            },
        }  # fmt: skip
        row: dict[str, Any] = {"network": name, "batch": batch}
        for way, more in ways.items():
            speed = self.ours(self.job(name, batch, "32", **more))
            row[way] = round(speed.images_per_s)
            if speed.warnings:
                row[f"{way}: warnings"] = speed.warnings
        return row

    def storing(self) -> dict[str, Any]:
        """Return what `mess compress` takes on the GPU and on the CPU, of a network that has been trained a little."""
        job = self.job(self.networks[0], self.batches[0], "32")
        run_job(replace(job, options=replace(job.options, epochs=2)), Reporter())
        model, _ = open_network(job.folder / BEST, job.architecture)
        small, side, count = (40, 64, 4) if self.args.smoke else (1024, 224, 64)
        networks = {
            self.networks[0]: (model.eval(), calibration_inputs(self.data, small)),
            f"MobileNetV2, {side} × {side}": imagenet_network(side, count),
        }
        return beside_the_cpu(networks, self.cuda, self.left, self.scratch)

    def first_step(self) -> dict[str, Any]:
        """Return seconds from the command to its first step, the second time it is given."""
        environment = with_sources()
        code = (
            "import sys, time; start = float(sys.argv[1]); from mess.cli import main; imported = time.time();"
            "import mess.training.loop as loop; plain = loop.train_step\n"
            "def first(*a):\n"
            "    plain(*a); print('SECONDS', imported - start, time.time() - start); sys.exit(0)\n"
            "loop.train_step = first\nmain(sys.argv[2:])"
        )
        found = {}
        for _ in range(2):
            command = ["train", "cifar10", "-a", "resnet", "--layers", "20", "--datapath", str(self.data.datapath)]
            command += ["--checkpoints", str(self.scratch / "first")] + (["-C"] if self.cuda else [])
            done = subprocess.run(
                [sys.executable, "-c", code, str(time.time()), *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=PROGRAM_S,
            )
            line = next(line for line in done.stdout.splitlines() if line.startswith("SECONDS"))
            found = dict(zip(("imports", "first step"), (round(float(x), 2) for x in line.split()[1:]), strict=True))
        return found

    def pictures(self) -> dict[str, Any]:
        """Return JPEGs a second that workers decode for the device, a core, and what a ResNet-50 takes."""
        device, size = torch.device("cuda" if self.cuda else "cpu"), 64 if self.args.smoke else 224
        folder, cores = self.scratch / "pictures" / "train" / "all", usable_cores()
        folder.mkdir(parents=True)
        image = (natural_noise(1, 512)[0] * 40 + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()[:375, :500]
        Image.fromarray(image).save(folder / "0.jpg", quality=90)
        for i in range(1, 64 if self.args.smoke else 4096):
            os.link(folder / "0.jpg", folder / f"{i}.jpg")
        found = open_dataset(str(folder.parents[1]), train=True, crop=size)
        batches = Batches(found, 32, train=True, device=device, workers=cores if self.cuda else 0, channels_last=True)

        def decoded() -> Iterator[None]:
            for epoch in range(1000):
                for _ in batches.epoch(epoch):
                    yield

        rate = 32 * per_second(decoded(), self.seconds, self.cuda, warm_up=4 * cores, at_once=1)
        row: dict[str, Any] = {
            "JPEGs of 500 × 375 a second": round(rate),
            "cores": cores,
            "a core": round(rate / cores),
        }
        model = models.build(models.resolve("resnet", "imagenet", layers=50))
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=MOMENTUM, fused=self.cuda or None)
        batch = 2 if self.args.smoke else 128
        images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.int64, device=device)

        def steps() -> Iterator[None]:
            while True:
                optimizer.zero_grad()
                with torch.autocast(device.type, torch.bfloat16):
                    loss = nn.functional.cross_entropy(model(images).float(), labels)
                loss.backward()
                optimizer.step()
                yield

        taken = batch * per_second(steps(), self.seconds, self.cuda, warm_up=10)
        needed = round(taken / max(1, rate / cores), 1)
        return row | {"ResNet-50, bf16, images a second": round(taken), "cores that it needs": needed}

    def accuracy(self) -> dict[str, Any]:
        """Train ResNet-20 from nothing; return seconds, without start-up, and the best accuracy."""
        if self.data.name != "cifar10" or self.args.synthetic:
            return {"left out": "CIFAR-10 is not there"}
        job = self.job(self.networks[0], 256, "bf16", lr=0.4, label_smoothing=0.1)
        options = replace(job.options, epochs=self.args.epochs, schedule="onecycle", save_epoch=self.args.epochs)
        found: list[EpochReport] = []

        class Curve(Reporter):
            def epoch_end(self, report: EpochReport) -> None:
                found.append(report)

        result = run_job(replace(job, options=options), Curve())
        reached = next((round(r.total_seconds, 1) for r in found if r.test_top1 >= TARGET), None)
        last = found[-1]
        return {
            "epochs": last.epoch, "seconds": round(last.total_seconds, 1), "last": round(last.test_top1, 2),
            "best": round(result.fit.best_top1, 2), f"seconds to {TARGET}": reached,
            "recipe": "--epochs N -b 256 --lr 0.4 --schedule onecycle --label-smoothing 0.1 --precision bf16 -C",
        }  # fmt: skip


def with_sources() -> dict[str, str]:
    """Return the environment of a program that is to import this checkout, ahead of what is found already."""
    found = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *([found] if found else [])])}


def device_name(cuda: bool) -> str:
    return torch.cuda.get_device_name() if cuda else "CPU"


def synthetic(folder: Path, images: int) -> None:
    """Write random pictures in CIFAR-10's binary layout."""
    random, where = np.random.default_rng(0), folder / "cifar-10-batches-bin"
    where.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = random.integers(0, 256, (images // 5, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(where / f"{name}.bin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds, all in all")
    parser.add_argument("--epochs", type=int, default=60, help="of the run from nothing")
    parser.add_argument("--go-on", action="store_true", help="leave out parts that the results have")
    parser.add_argument("--parts", nargs="+", default=[], help="only those that begin so: checks, loops, schemes, …")
    parser.add_argument("--smoke", action="store_true", help="one network, small batches, tenths of seconds")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU that torch can use: --device cpu --smoke tries the program itself")
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        args.synthetic = not (args.datapath / "cifar-10-batches-bin").is_dir()
        if args.synthetic:
            synthetic(scratch / "data", 500 if args.smoke else 50_000)
        datapath = scratch / "data" if args.synthetic else args.datapath
        program = Program(args, DataChoice("cifar10", datapath), scratch)
        if args.synthetic:
            program.rows["setting"]["data"] = "random pictures"
        program.part("checks", 40, program.checks)
        for batch in program.batches:
            for name in program.networks if batch == program.batches[0] else program.networks[:1]:
                program.part(f"loops {name}, {batch}", 15, lambda name=name, batch=batch: program.loops(name, batch))
        program.part("schemes", 30, program.schemes)
        program.part("accuracy", 90, program.accuracy)
        program.part("storing", 40, program.storing)
        program.part("first step", 20, program.first_step)
        program.part("pictures", 25, program.pictures)


if __name__ == "__main__":
    main()
