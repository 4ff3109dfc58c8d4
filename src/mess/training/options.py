"""How to train: one frozen record that checks itself, and travels in every checkpoint as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mess.errors import OptionError, one_of
from mess.names import LOGS, PRECISIONS, SCHEDULES
from mess.training.tensorboard import check_installed

FLAGS = {"warmup_epochs": "--warmup"}  # of options whose flag is not their name


def flag_of(name: str) -> str:
    """Return the flag of an option, as it is typed."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def as_typed(name: str, value: object) -> str:
    """Return an option and its value as they are typed."""
    return flag_of(name) if value is True else f"{flag_of(name)} {value}"


def told_change(flag: str, now: object, before: object) -> str:
    """Return the line that says what a resume changes; `before` is None where the checkpoint was made without it."""
    if isinstance(now, bool):
        words = ("given", "without") if now else ("left out", "with")
        return f"{flag} is {words[0]} now (the checkpoint was made {words[1]} it)"
    return f"{flag} is now {now} (the checkpoint {'was made without it' if before is None else f'has {before}'})"


@dataclass(frozen=True)
class TrainOptions:
    """Options of a run. The flag of each is its name with dashes, or stands in `FLAGS`.

    Attributes:
        epochs: epochs of the whole run, those before a resume included.
        batch_size: samples a step, over all devices together.
        lr: the highest learning rate of the schedule.
        weight_decay: not applied to BatchNorm and biases.
        schedule: "cosine" | "step" | "onecycle", see `training.schedule`.
        warmup_epochs: epochs of linear warm-up ahead of "cosine" and "step".
        label_smoothing: share of the target spread evenly over all classes, 0 ≤ · < 1.
        ema: decay of the weights' moving average, which is then what is tested and kept; 0 = off.
        precision: "32" | "bf16" | "16"; what the devices were opened with.
        sync_bn: BatchNorm statistics of the whole batch, over all processes, instead of each process's part.
        channels_last: keep tensors in NHWC order in memory, which convolutions are faster in.
        print_freq: steps between progress reports.
        save_epoch: epochs between the checkpoints that are kept (`ckpt_epoch_N.pth`).
        save_every: also save `ckpt_last.pth` this often within an epoch: "500" steps or "10m" minutes; None = never.
        seed: seed of every random draw.
        log: "csv" | "tensorboard": curves for TensorBoard beside `log.csv`, which is always written.
        eager: run steps operation by operation on a GPU, too, where they are else captured in a CUDA graph.
        deterministic: kernels that give the same bits each time, on a GPU; a CPU's always do.

    Raises:
        OptionError: a value that cannot work, or a combination of them.
    """

    epochs: int = 200
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    precision: str = "32"
    sync_bn: bool = False
    channels_last: bool = True
    print_freq: int = 100
    save_epoch: int = 10
    save_every: str | None = None
    seed: int = 0
    log: str = "csv"
    eager: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "print_freq", "save_epoch"):
            self._check(name, getattr(self, name) >= 1, "a number of at least 1")
        self._check("lr", math.isfinite(self.lr) and self.lr > 0, "a number above 0")
        self._check("momentum", 0 <= self.momentum < 1, "0 ≤ momentum < 1")
        self._check("weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "a number from 0")
        self._check("label_smoothing", 0 <= self.label_smoothing < 1, "0 ≤ smoothing < 1")
        self._check("ema", 0 <= self.ema < 1, "0 (off) or a decay below 1, such as 0.999")
        self._check("schedule", self.schedule in SCHEDULES, one_of(SCHEDULES, str(self.schedule)))
        self._check("precision", self.precision in PRECISIONS, one_of(PRECISIONS, str(self.precision)))
        self._check("warmup_epochs", 0 <= self.warmup_epochs < self.epochs, f"from 0 to below {self.epochs} epochs")
        self._check("seed", 0 <= self.seed < 2**63, "0 ≤ seed < 2^63")
        self._check("log", self.log in LOGS, one_of(LOGS, str(self.log)))
        if self.log == "tensorboard":
            check_installed()
        self.saving_interval()
        if self.schedule == "onecycle" and self.warmup_epochs:
            raise OptionError(
                FLAGS["warmup_epochs"], "0 with the one-cycle schedule, which has its own", self.warmup_epochs
            )

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise OptionError(flag_of(name), expected, getattr(self, name))

    def saving_interval(self) -> tuple[int | None, float | None]:
        """Return `save_every` as (steps, None), (None, seconds), or (None, None) where it is off."""
        text = self.save_every
        if text is None:
            return None, None
        number = text[:-1] if text.endswith("m") else text
        try:
            value = float(number) if text.endswith("m") else int(number)
        except ValueError:
            value = -1
        if not (value > 0 and math.isfinite(value)):
            raise OptionError("--save-every", "steps such as 500, or minutes such as 10m", text)
        return (None, value * 60) if text.endswith("m") else (int(value), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain numbers, strings, booleans and None."""
        return asdict(self)

    @classmethod
    def resumed(cls, saved: Mapping[str, Any], explicit: Mapping[str, Any]) -> TrainOptions:
        """Return the options of a checkpoint, with those the user gave in so many words in their place.

        Unknown names in `saved` are left out: a checkpoint may come from another version.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in {**saved, **explicit}.items() if name in known})

    def changes(self, saved: Mapping[str, Any]) -> list[str]:
        """Return one line for each option that a resume changes, naming both values."""
        mine = self.to_dict()
        return [
            told_change(flag_of(name), mine[name], saved[name])
            for name in mine
            if name in saved and saved[name] != mine[name]
        ]
