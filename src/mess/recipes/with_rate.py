"""How version 4 takes part in training: the loss and the bytes of the file fall together."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mess import codec, models
from mess.conversion import layout_of
from mess.conversion_v4 import as_learned, as_stored
from mess.models import Architecture
from mess.recipes.job import LABELS, DataChoice, Job, RateTraining
from mess.recipes.sources import calibration_inputs, open_teacher
from mess.scheme.learned import Learned, LearnOptions, Priced, learn, resumed_start
from mess.training import Hooks, TrainOptions
from mess.training.checkpoint import find

FINER = 3.0  # how much less divergence a float network is rounded with, to begin with, than its price asks for


@dataclass(frozen=True)
class Teacher:
    """A float network whose answers are learned; it may be of another architecture, as long as the classes agree."""

    model: nn.Module
    architecture: Architecture

    def state(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"teacher": self.model.state_dict(), "teacher_architecture": self.architecture.to_dict()}


def rate_hooks(
    model: nn.Module,
    job: Job,
    rate: RateTraining,
    start: Learned,
    teacher: Teacher | None,
    *,
    rounds: int,
    input_facts: Mapping[str, Any],
    written: list[Path],
) -> Hooks:
    """Return what `fit` needs to train `model` through version 4; `model` is changed by it."""
    priced = Priced(model, start)
    taught = {} if teacher is None else teacher.state()

    def optimizer(_model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
        return torch.optim.Adam(priced.parameter_groups(), lr=options.lr, betas=(0.9, 0.99))

    def write(path: Path, _model: nn.Module) -> None:
        suffix = f"_v4_r{rounds}" if rounds else "_v4"
        about = {**input_facts, **({"rounds": rounds} if rounds else {})}
        plain = models.build(job.architecture, initialised=False)
        learned = priced.current(plain)
        stored = as_stored(learned, plain.state_dict(), rate.rest_bits, architecture=job.architecture, about=about)
        target = path.with_name(f"{path.stem}{suffix}.mess")
        codec.write_model(target, stored, layout=layout_of)
        if target not in written:
            written.append(target)

    return Hooks(
        optimizer=optimizer,
        loss=_following(teacher.model, job.options.precision) if teacher is not None else None,
        penalty=lambda _model: rate.weight * priced.bits_a_weight(),
        after_step=lambda _model: priced.after_step(),
        export=lambda _model: priced.plain_state_dict(),
        load=lambda _model, state: priced.load_plain(state),
        extra_state=lambda: {**priced.state_dict(), **taught},
        load_extra_state=priced.load_state_dict,
        saved=write,
    )


def rate_start(
    model: nn.Module,
    path: Path | None,
    rate: RateTraining,
    data: DataChoice,
    seed: int,
    resumed: Mapping[str, Any] | None,
) -> Learned:
    """Return what training through version 4 starts from: a checkpoint, a file, or a float network on real images.

    A float network is first rounded more finely than the price asks for: training lets the last bytes go one by one,
    where a network that was rounded as coarsely as it will end would have to be learned again. For one bit λ is
    2·ln 2·divergence / weights there (`LearnOptions`) and rate weight / weights here.
    """
    if resumed is not None:
        return resumed_start(resumed["extra"], model)
    if path is not None and path.suffix == ".mess":
        return as_learned(codec.read_model(path, layout=layout_of), model)
    options = LearnOptions(rate.weight / (2 * math.log(2) * FINER), seed=seed)
    return learn(model, calibration_inputs(data), options, draft=True)


def rate_teacher(model: nn.Module, job: Job, rate: RateTraining, resumed: Mapping[str, Any] | None) -> Teacher | None:
    """Return the float network whose answers are learned, or None for labels; see `RateTraining`."""
    architecture = job.architecture
    if resumed is not None:
        if "teacher" not in resumed["extra"]:
            return None
        if "teacher_architecture" in resumed["extra"]:  # runs begun before had their own
            architecture = Architecture.from_dict(resumed["extra"]["teacher_architecture"])
        teacher = models.build(architecture, initialised=False)
        teacher.load_state_dict(resumed["extra"]["teacher"])
    elif rate.teacher == LABELS or (rate.teacher is None and job.mode == "retrain"):
        return None
    elif rate.teacher is None:
        teacher = copy.deepcopy(model)
    else:
        teacher, architecture = open_teacher(find(rate.teacher, job.folder), architecture)
    teacher = teacher.eval().requires_grad_(False)
    return Teacher(teacher.to(memory_format=torch.channels_last), architecture)  # type: ignore[call-overload]


def _following(teacher: nn.Module, precision: str) -> Any:
    """Return the loss against the answers of a float network, in place of labels.

    With labels, gradients say so little about a single number in an epoch that integers wander, and wandering integers
    cost bits. A network's answers give gradients that vanish where the stored one agrees.
    """

    def loss(logits_NC: Tensor, images_NCHW: Tensor, _labels_N: Tensor) -> Tensor:
        device = images_NCHW.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision != "32"):
            taught_NC = teacher.to(device)(images_NCHW).float().log_softmax(1)
        return F.kl_div(logits_NC.float().log_softmax(1), taught_NC, log_target=True, reduction="sum")

    return loss
