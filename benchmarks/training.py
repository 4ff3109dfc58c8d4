"""Training: our loop beside a plain PyTorch loop, and what the scheme costs in it.

    python benchmarks/training.py --datapath ../data            # or --data digits, which needs no files

Both loops train the same network from the same weights in the same process, a few steps each in turn, on as many
threads. Ours is `mess train` itself (`mess.recipes.run_job`). The plain one is what everybody writes: a Dataset of PIL
images with random crop and mirror, a DataLoader, float32, the default layout, SGD, `loss.item()` each step. Ratios are
of processor seconds, which other work on the machine changes little; a DataLoader's workers could at best hide all
of its decoding, so ratios are given against a plain loop whose images cost nothing as well. Writes
docs/results/speed_training.json, of which results.py makes a page.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common import described, median, read_rows, setting, write_rows
from mess import models
from mess.data import open_dataset, stateless
from mess.models import Architecture
from mess.recipes import DataChoice, Job, RateChoice, SchemeChoice, run_job
from mess.scheme.learned.inputs import natural_noise
from mess.storing import StoreOptions, compress
from mess.training import Reporter, StepReport, TrainOptions
from turns import Timed, Window, take_turns

NAME = "speed_training"
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-20": {"arch": "resnet", "layers": 20},
    "MobileNetV2": {"arch": "mobilenetv2"},
    "ShuffleNetV2": {"arch": "shufflenetv2"},
    "WideResNet-16-4": {"arch": "wideresnet", "layers": 16, "width_mult": 4.0},
}
BATCH, RATE, MOMENTUM, DECAY, PADDING = 128, 0.05, 0.9, 5e-4, 4
SAME_LOSS = 0.1  # of the loss: how far the two curves may be apart, a window on average, as crops differ
BARS = {"ours": 1.3, "decoder": 1.25, "penalty": 1.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--parts", nargs="+", default=["loops", "scheme"], choices=["loops", "scheme"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps a window")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = DataChoice(args.data, args.datapath, workers=0)
    rows = read_rows(NAME)
    for name in args.networks if "loops" in args.parts else ():
        rows[name] = {**loops(name, data, args.rounds, args.steps), **setting()}
        print(name, rows[name], flush=True)
        write_rows(NAME, rows)
    if "scheme" in args.parts:
        rows["scheme"] = {**scheme("ResNet-20", data, args.rounds, args.steps), **setting()}
        print(rows["scheme"], flush=True)
        write_rows(NAME, rows)


def loops(name: str, data: DataChoice, rounds: int, steps: int) -> dict[str, Any]:
    """Return images a second of both loops, and their ratio."""
    architecture = network(name, data)
    loading: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        timed = take_turns(
            {
                "plain": partial(plain_loop, architecture, data, steps, loading),
                "ours": partial(our_loop, job_of(architecture, data, steps, Path(folder))),
            },
            rounds,
        )
    losses = {key: torch.tensor(times.losses) for key, times in timed.items()}
    apart = float(((losses["ours"] - losses["plain"]).abs() / losses["plain"]).mean())
    if apart > SAME_LOSS:
        raise SystemExit(f"{name}: losses are {apart:.0%} apart: {losses}")
    cpu = {key: median(times.cpu_s) for key, times in timed.items()}
    free = cpu["plain"] - steps * median(loading[steps:])
    return {
        "images_per_cpu_s": {key: round(BATCH * steps / value, 1) for key, value in cpu.items()},
        "ratio": round(cpu["plain"] / cpu["ours"], 3),
        "ratio_free_images": round(free / cpu["ours"], 3),
        "ratio_wall": round(wall_ratio(timed["plain"], timed["ours"]), 3),
        "losses_apart": round(apart, 4),
        "n": rounds,
        "steps": steps,
    }


def scheme(name: str, data: DataChoice, rounds: int, steps: int) -> dict[str, Any]:
    """Return the cost of a step with the scheme over one of our plain steps."""
    architecture = network(name, data)
    ways = {
        "plain": SchemeChoice(),
        "-N -v v2": SchemeChoice(store=StoreOptions("v2")),
        "-N -v v3": SchemeChoice(store=StoreOptions("v3")),
        "--nl": SchemeChoice(store=StoreOptions("v2"), project=True, nuclear=1.0),
        "--pl": SchemeChoice(store=StoreOptions("v2"), project=True, pearson=1.0),
        "-T -v v4": SchemeChoice(store=StoreOptions("v4"), rate=RateChoice()),
    }
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.mess"
        torch.manual_seed(0)
        untrained = models.build(architecture)
        compress(untrained, start, "v4", natural_noise(16, 32), architecture=architecture)
        programs: dict[str, Callable[[Window], None]] = {}
        for way, chosen in ways.items():
            job = job_of(architecture, data, steps, Path(folder) / way, chosen, start if chosen.rate else None)
            programs[way] = partial(our_loop, job)
        timed = take_turns(programs, rounds)
    cpu = {way: median(times.cpu_s) for way, times in timed.items()}
    return {
        "network": name,
        "cost": {way: round(value / cpu["plain"], 3) for way, value in cpu.items() if way != "plain"},
        "n": rounds,
        "steps": steps,
    }


def network(name: str, data: DataChoice) -> Architecture:
    chosen = dict(NETWORKS[name])
    return models.resolve(chosen.pop("arch"), data.name, **chosen)


def wall_ratio(slow: Timed, fast: Timed) -> float:
    return median([a / b for a, b in zip(slow.wall_s, fast.wall_s, strict=True)])


def job_of(
    architecture: Architecture,
    data: DataChoice,
    steps: int,
    folder: Path,
    chosen: SchemeChoice | None = None,
    start: Path | None = None,
) -> Job:
    options = TrainOptions(
        epochs=1000, batch_size=BATCH, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, print_freq=steps, seed=0
    )
    mode = "train" if start is None else "retrain"
    return Job(
        data, architecture, options, scheme=chosen or SchemeChoice(), checkpoints=folder,
        ckpt=None if start is None else str(start), mode=mode,
    )  # fmt: skip


class Turn(Reporter):
    """The reporter that ends a window at each report."""

    def __init__(self, window: Window) -> None:
        self.window, self.sum, self.steps = window, 0.0, 0

    def step(self, report: StepReport) -> None:
        """Tell the loss of the window: the report has the mean of the epoch so far."""
        if report.step <= self.steps:
            self.sum, self.steps = 0.0, 0
        of_window = (report.loss * report.step - self.sum) / (report.step - self.steps)
        self.sum, self.steps = report.loss * report.step, report.step
        self.window(of_window)


def our_loop(job: Job, window: Window) -> None:
    run_job(job, Turn(window))


class Pictures(Dataset):
    """A dataset as torchvision's CIFAR-10 and its usual transforms make it."""

    def __init__(self, data: DataChoice) -> None:
        found = open_dataset(data.name, data.datapath, train=True)
        self.images_NHWC = found.images_NCHW.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = found.labels_N.tolist()
        self.draw = np.random.default_rng(0)
        self.mean, self.std = (torch.tensor(x).view(3, 1, 1) for x in (found.info.mean, found.info.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = ImageOps.expand(Image.fromarray(self.images_NHWC[index]), PADDING)
        left, top = self.draw.integers(0, 2 * PADDING, size=2, endpoint=True)
        image = image.crop((left, top, left + 32, top + 32))
        if self.draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(self.mean).div_(self.std), self.labels[index]


def plain_loop(architecture: Architecture, data: DataChoice, steps: int, loading: list[float], window: Window) -> None:
    """Train as everybody writes it; `loading` gets the processor seconds of each batch's images."""
    torch.manual_seed(0)
    model = models.build(architecture)
    images = Pictures(data)
    order = stateless.permutation(0, 0, len(images)).tolist()  # ours, so that the curves can be compared
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    criterion = nn.CrossEntropyLoss()
    model.train()
    while True:
        total, start = 0.0, time.process_time()
        for step, (inputs, labels) in enumerate(DataLoader(images, BATCH, sampler=order, drop_last=True), start=1):
            loading.append(time.process_time() - start)
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
            if step % steps == 0:
                window(total / steps)
                total = 0.0
            start = time.process_time()


def page(rows: dict[str, Any]) -> list[str]:
    """Return the page."""
    found = {name: rows[name] for name in NETWORKS if name in rows}
    lines = [
        "# Speed of training",
        "",
        f"`python benchmarks/training.py`, batch {BATCH}, float32, CIFAR-10: our loop (`mess train`) beside a plain",
        "PyTorch loop with a DataLoader over PIL images, same network and first weights, in turns in one process.",
        "Medians of processor seconds of the windows, and their ratio by the clock. *Images free*: against a plain",
        "loop whose images cost nothing, the best that workers could do. *Losses apart*: of a window, on average, from",
        f"the same start, where crops differ; more than {SAME_LOSS:.0%} fails.",
        "",
        "| network | plain, images/s | ours, images/s | ratio | images free | wall | losses apart | n × steps |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        speed = row["images_per_cpu_s"]
        lines.append(
            f"| {name} | {speed['plain']:.0f} | {speed['ours']:.0f} | {row['ratio']:.2f} |"
            f" {row['ratio_free_images']:.2f} | {row['ratio_wall']:.2f} | {row['losses_apart']:.1%} |"
            f" {row['n']} × {row['steps']} |"
        )
    for key, text in (("ratio", "ratio"), ("ratio_free_images", "images free")):
        if found:
            mean = math.exp(sum(math.log(row[key]) for row in found.values()) / len(found))
            lines.append(f"| geometric mean, {text} | | | **{mean:.2f}** | | | | |")
    if missing := [name for name in NETWORKS if name not in found]:
        lines += ["", f"Not measured yet, and not in the means: {', '.join(missing)}."]
    if found:
        lines += ["", described(next(iter(found.values())))]
    if "scheme" in rows:
        row = rows["scheme"]
        lines += [
            "",
            f"## What the scheme costs: {row['network']}, a step over one of our plain steps",
            "",
            "| way | cost | bar |",
            "|---|---:|---:|",
        ]
        for way, cost in row["cost"].items():
            bar = BARS["penalty" if way in ("--nl", "--pl") else "decoder"]
            lines.append(f"| `{way}` | {cost:.2f} | {bar:.2f} |")
        lines += ["", described(row)]
    return lines


if __name__ == "__main__":
    main()
