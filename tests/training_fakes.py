"""A tiny network and batches with the interface of `mess.data.Batches`; as a script, one training run of them.

python training_fakes.py FOLDER [--processes N] [--epochs N] [--resume] [--signal-at STEP] …

It prints the hash of the weights it ends with.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mess.devices import Devices, open_devices
from mess.errors import MessError
from mess.training import Hooks, TrainOptions, fit
from mess.training.checkpoint import load, load_newest

CLASSES = 3


class FakeArchitecture:
    def __init__(self, layers: int = 2, num_classes: int = CLASSES) -> None:
        self.layers, self.num_classes = layers, num_classes

    def to_dict(self) -> dict[str, object]:
        return {"arch": "tiny", "dataset": "fake", "num_classes": self.num_classes, "layers": self.layers}


def tiny(dropout: float = 0.3, layers: int = 2, normed: bool = True) -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8) if normed else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False),
        nn.BatchNorm2d(8) if normed else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8, CLASSES),
    )
    model.architecture = FakeArchitecture(layers)
    return model


class FakeBatches:
    """`samples` images of three kinds; order and noise are functions of (seed, epoch, index)."""

    def __init__(self, samples: int = 40, batch: int = 8, *, train: bool = True, rank: int = 0, world: int = 1) -> None:
        generator = torch.Generator().manual_seed(5 if train else 6)
        self.labels_N = torch.arange(samples) % CLASSES
        self.images_NCHW = torch.randn(samples, 3, 8, 8, generator=generator)
        self.images_NCHW[torch.arange(samples), self.labels_N] += 1.0
        self.samples, self.batch, self.train, self.rank, self.world = samples, batch, train, rank, world
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return -(-self.samples // self.batch)

    def global_size(self, step: int) -> int:
        return min(self.batch, self.samples - step * self.batch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(self.samples)
        if self.train:
            order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(epoch))
        for step in range(first_step, len(self)):
            self.seen.append((epoch, step))
            chosen = order[step * self.batch : (step + 1) * self.batch]
            size = len(chosen)
            part = chosen[self.rank * size // self.world : (self.rank + 1) * size // self.world]
            yield self.images_NCHW[part], self.labels_N[part]


def digest(state: dict[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(name.encode() + state[name].detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--save-every")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--plain", action="store_true", help="no BatchNorm, no dropout: the same on any split")
    parser.add_argument("--sync-bn", action="store_true", help="no dropout, and BatchNorm over all processes: likewise")
    parser.add_argument("--signal-at", type=int, default=0)
    parser.add_argument("--signal-in-test", action="store_true")
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--log", default="csv")
    parser.add_argument("--rank", type=int, default=0, help="the process that signals")
    return parser.parse_args(argv)


def main() -> int:
    args = parsed()
    try:
        devices = open_devices(processes=args.processes, precision=args.precision)
        return devices.launch(run, devices, args)
    except MessError as error:
        sys.stderr.write(f"mess: {error}\n")
        return 2


def run(devices: Devices, args: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    options = TrainOptions(
        epochs=args.epochs,
        batch_size=args.batch,
        lr=args.lr,
        ema=args.ema,
        precision=args.precision,
        save_every=args.save_every,
        sync_bn=args.sync_bn,
        print_freq=2,
        save_epoch=2,
        log=args.log,
    )
    data = [
        FakeBatches(n, args.batch, train=train, rank=devices.rank, world=devices.world_size)
        for n, train in ((args.samples, True), (17, False))
    ]
    steps = 0

    def after_step(_model: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == 1 and devices.is_main:
            (args.folder / "started").touch()
        time.sleep(args.sleep)
        if devices.rank == args.rank and steps == args.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if devices.rank == args.rank and steps == args.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def validated(_model: nn.Module) -> Iterator[None]:
        if args.signal_in_test and devices.rank == args.rank:
            os.kill(os.getpid(), signal.SIGTERM)
        yield

    args.folder.mkdir(parents=True, exist_ok=True)
    resumed = None
    if args.resume and (args.folder / "ckpt_last.pth").exists():
        _, resumed = load_newest(args.folder, lambda text: sys.stderr.write(text + "\n"))
    hooks = Hooks(after_step=after_step, validated=validated)
    model = tiny(0.0 if args.plain or args.sync_bn else 0.3, normed=not args.plain)
    result = fit(model, *data, options, devices, hooks=hooks, checkpoint_dir=args.folder, resume_from=resumed)
    if devices.is_main:
        weights = load(args.folder / "ckpt_last.pth")["state_dict"]
        sys.stdout.write(f"{digest(weights)} {result.epochs} {result.best_top1}\n")
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
