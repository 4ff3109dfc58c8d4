"""What training through version 4 starts from, and the float network that it follows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mess import codec, models
from mess.class_folders import digest, same_spelling
from mess.devices import Devices
from mess.errors import OptionError, first_few
from mess.models import Architecture
from mess.models.described import layout_of
from mess.recipes.job import LABELS, DataChoice, Job, RateChoice
from mess.recipes.resuming import is_changed, saved_recipe
from mess.recipes.sources import calibration_inputs, open_images, open_teacher
from mess.recipes.starting import Start
from mess.scheme.learned import Learned, LearnOptions, StageProgress, divergence_at, learn, resumed_start
from mess.storing import decoded
from mess.storing.sources import is_stored
from mess.training.checkpoint import find

INPUTS = "teacher_inputs"  # in a checkpoint
FINER = 6.0  # how much cheaper a bit is when a float network is rounded to begin with than while it trains


@dataclass(frozen=True)
class Teacher:
    """A float network whose predictions are learned; of any architecture with as many classes.

    Attributes:
        inputs: (2, 3) factor and shift of R, G, B that make its inputs of those of the network that learns; None where
            both see the same.
        classes: names of its classes in order, or their hash, as far as its file says them.
    """

    model: nn.Module
    architecture: Architecture
    inputs: Tensor | None = None
    classes: Sequence[str] | str | None = None

    def refuse_other_classes(self, names: Sequence[str]) -> None:
        """Refuse to learn what a network says of other classes than `names`, those of the images; () if not known.

        Raises:
            OptionError: names both.
        """
        own = self.classes
        if own is None or not names:
            return
        if isinstance(own, str):
            same, found = own == digest(names), "others, of which its file keeps a hash"
        else:
            same, found = [*same_spelling(own, names).values()] == [*names], first_few(own)
        if not same:
            raise OptionError("--teacher", f"a network of the classes {first_few(names)}", found)

    def state(self) -> dict[str, Any]:
        """Return what a resume needs."""
        told = {} if self.inputs is None else {INPUTS: self.inputs}
        return {"teacher": self.model.state_dict(), "teacher_architecture": self.architecture.to_dict(), **told}

    def loss(self, precision: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return the loss against its predictions, in place of labels.

        With labels, gradients say so little about a single number in an epoch that integers wander, and wandering
        integers cost bits. A network's predictions give gradients that vanish where the stored one agrees.
        """
        model, inputs, at = self.model, self.inputs, torch.device("cpu")

        def follow(logits_NC: Tensor, images_NCHW: Tensor, _labels_N: Tensor) -> Tensor:
            nonlocal at, inputs
            device = images_NCHW.device
            if at != device:  # once: looking at every weight each step takes as long as small networks do
                model.to(device)
                inputs, at = None if inputs is None else inputs.to(device), device
            if inputs is not None:
                factor_C, shift_C = inputs
                images_NCHW = images_NCHW * factor_C[:, None, None] + shift_C[:, None, None]
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision != "32"):
                taught_NC = model(images_NCHW).float().log_softmax(1)
            return F.kl_div(logits_NC.float().log_softmax(1), taught_NC, log_target=True, reduction="sum")

        return follow


def mixed(images_NCHW: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image mixed with a smaller part of another, and its own label (mixup, Zhang et al. 2018, 1710.09412).

    A network is so sure of the images it was trained on that it tells little about them; what it says of mixtures has
    to be learned, and learning that carries over to new images (Beyer et al. 2022, arXiv 2106.05237).
    """
    real_NCHW = images_NCHW[: len(labels_N)]  # the rest only fills a batch up
    other_N111 = 0.5 * torch.rand(len(real_NCHW), 1, 1, 1, device=images_NCHW.device, dtype=images_NCHW.dtype)
    mixed_NCHW = real_NCHW.lerp(real_NCHW.roll(1, 0), other_N111)
    return torch.cat([mixed_NCHW, images_NCHW[len(real_NCHW) :]]), labels_N


def rate_start(
    start: Start, rate: RateChoice, data: DataChoice, seed: int, devices: Devices, progress: StageProgress
) -> Learned:
    """Return what training through version 4 starts from: a checkpoint, a file, or a float network on real images.

    A float network is first rounded more finely than λ asks for: training lets the last bytes go one by one,
    where a network that was rounded as coarsely as it will end would have to be learned again.
    """
    model = start.model
    if start.resumed is not None:
        return resumed_start(start.resumed["extra"], model)
    if start.path is not None and is_stored(start.path):
        return decoded(codec.read_model(start.path, layout=layout_of), model)
    options = LearnOptions(divergence_at(rate.weight / FINER), seed=seed, trellised=False)

    def learned() -> dict[str, Any]:
        progress("reading images", 0, 0)
        there = copy.deepcopy(model).to(devices.device)
        found = learn(there, calibration_inputs(data), options, progress=progress)
        return {"layers": found.layers, "bases": found.bases}

    return Learned(model=model, **devices.once(learned))  # minutes, which one process takes for all


def rate_teacher(
    model: nn.Module, job: Job, rate: RateChoice, data: DataChoice, resumed: Mapping[str, Any] | None
) -> Teacher | None:
    """Return the float network whose predictions are learned, or None for labels; see `RateChoice`.

    A resumed run keeps the one in its checkpoint, whatever has become of the file, unless it is told another.

    Args:
        data: whose mean and std are those of the network that learns; those of `job` are what was typed.
    """
    architecture, inputs, classes = job.architecture, None, None
    if resumed is not None and not is_changed(job, saved_recipe(resumed), "teacher"):
        if "teacher" not in resumed["extra"] or rate.teacher == LABELS:
            return None
        if "teacher_architecture" in resumed["extra"]:  # runs begun before had their own
            architecture = Architecture.from_dict(resumed["extra"]["teacher_architecture"])
        teacher, inputs = models.build(architecture, initialised=False), resumed["extra"].get(INPUTS)
        teacher.load_state_dict(resumed["extra"]["teacher"])
    elif rate.teacher == LABELS or (rate.teacher is None and job.mode == "retrain"):
        return None
    elif rate.teacher is None:
        teacher = copy.deepcopy(model)
    else:
        teacher, architecture, about = open_teacher(find(rate.teacher, job.folder), architecture)
        inputs, classes = _other_inputs(data, job.data, about), about.get("classes")
    teacher = teacher.eval().requires_grad_(False)
    return Teacher(teacher.to(memory_format=torch.channels_last), architecture, inputs, classes)  # type: ignore[call-overload]


def _other_inputs(data: DataChoice, typed: DataChoice, about: Mapping[str, Any]) -> Tensor | None:
    """Return `Teacher.inputs` of a teacher that was made for the mean and std that its file says, or that are typed."""
    own = replace(typed, mean=about.get("mean") or typed.mean, std=about.get("std") or typed.std)
    if (own.mean, own.std) == (data.mean, data.std):  # datasets of folders take a while to open
        return None
    seen, wanted = open_images(data, train=False).info, open_images(own, train=False).info
    mean_C, std_C, own_mean_C, own_std_C = map(torch.tensor, (seen.mean, seen.std, wanted.mean, wanted.std))
    inputs = torch.stack([std_C / own_std_C, (mean_C - own_mean_C) / own_std_C])
    return None if torch.equal(inputs, torch.tensor([[1.0] * 3, [0.0] * 3])) else inputs
