"""How version 4 takes part in training: the loss and the bytes of the file fall together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mess import codec, models
from mess.conversion import layout_of
from mess.conversion_v4 import as_learned, as_stored
from mess.recipes.job import DataChoice, Job, RateTraining
from mess.recipes.sources import calibration_inputs, find_file, open_network
from mess.scheme.learned import Learned, LearnOptions, Priced, learn, resumed_start
from mess.training import Hooks, TrainOptions, summed_cross_entropy

TEACHING = 0.5  # share of the loss that follows the teacher


def rate_hooks(
    model: nn.Module,
    job: Job,
    rate: RateTraining,
    start: Learned,
    *,
    rounds: int,
    input_facts: Mapping[str, Any],
    written: list[Path],
) -> Hooks:
    """Return what `fit` needs to train `model` through version 4; `model` is changed by it."""
    priced = Priced(model, start)

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
        loss=_teaching(job, rate.teacher) if rate.teacher is not None else None,
        penalty=lambda _model: rate.weight * priced.bits_a_weight(),
        after_step=lambda _model: priced.after_step(),
        export=lambda _model: priced.plain_state_dict(),
        load=lambda _model, state: priced.load_plain(state),
        extra_state=priced.state_dict,
        load_extra_state=priced.load_state_dict,
        saved=write,
    )


def rate_start(
    model: nn.Module,
    path: Path | None,
    data: DataChoice,
    seed: int,
    resumed: Mapping[str, Any] | None,
) -> Learned:
    """Return what training through version 4 starts from: a checkpoint, a file, or a float network on real images.

    A float network is rounded finely, whatever the price: training then lets bytes go one by one, where a network that
    was rounded as coarsely as it will end would first have to be learned again.
    """
    if resumed is not None:
        return resumed_start(resumed["extra"], model)
    if path is not None and path.suffix == ".mess":
        return as_learned(codec.read_model(path, layout=layout_of), model)
    return learn(model, calibration_inputs(data), LearnOptions(seed=seed), draft=True)


def _teaching(job: Job, ckpt: str) -> Any:
    """Return the loss that half follows the labels and half the answers of a float network."""
    teacher, _ = open_network(find_file(ckpt, job.architecture, job.checkpoints), job.architecture)
    teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    low = job.options.precision != "32"

    def loss(logits_NC: Tensor, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        device = images_NCHW.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            taught_NC = teacher.to(device)(images_NCHW).float().log_softmax(1)
        follows = F.kl_div(logits_NC.float().log_softmax(1), taught_NC, log_target=True, reduction="sum")
        labelled = summed_cross_entropy(logits_NC, labels_N, job.options.label_smoothing)
        return TEACHING * follows + (1 - TEACHING) * labelled

    return loss
