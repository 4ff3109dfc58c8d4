"""Inputs to look at a network with: given ones, or images made up from what its BatchNorm layers remember."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess.errors import DataError
from mess.scheme.learned.calls import Watch, work
from mess.scheme.learned.layerwise import StageProgress, device_of, fast_layout, no_progress, split_batches

log = logging.getLogger("mess.storing")
MAX_INPUTS = 1024  # inputs learned from
MAX_SMALL_INPUTS = 5 * MAX_INPUTS  # that are read, if they are small, so that losses can be measured on the others
SMALL_NUMBERS = MAX_SMALL_INPUTS * 3 * 32 * 32  # numbers that small inputs have in all
SYNTHETIC = 256  # images that are made up at most
SYNTHETIC_NUMBERS = 16 * 3 * 224 * 224  # that they have together: fewer images where they are large
SYNTHETIC_WORK = 1 << 36  # multiply-adds of a forward pass over all of them: fewer images for a large network
MIN_SYNTHETIC = 16
STEPS = 40
RATE = 0.1
COLOUR = 0.9  # correlation of the three colours in the images that synthesis starts from


def gather_inputs(
    calibration: Iterable[Any] | Tensor, most: int = MAX_SMALL_INPUTS, *, progress: StageProgress = no_progress
) -> tuple[Tensor, Tensor | None]:
    """Return (inputs, labels or None): the first `most` given, fewer where they are large, at least `MAX_INPUTS`.

    Args:
        calibration: one tensor of inputs, or batches of inputs, or batches of (inputs, labels). Of a tensor, or a first
            batch, that alone has more of them, so many are drawn, the same each time: they may come class by class.

    Raises:
        DataError: no inputs, inputs of several shapes, or something that is no tensor of floats.
    """
    whole = isinstance(calibration, Tensor)
    if not isinstance(calibration, Iterable) or (isinstance(calibration, Tensor) and not calibration.dim()):
        raise DataError("calibration", "batches of float tensors, or of (inputs, labels)", type(calibration).__name__)
    batches = [calibration] if isinstance(calibration, Tensor) else calibration
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    count, limit = 0, most
    for batch in batches:
        pair = batch if isinstance(batch, tuple | list) else (batch,)
        if not pair or not isinstance(pair[0], Tensor) or not pair[0].is_floating_point():
            raise DataError("calibration", "batches of one float tensor, or of (inputs, labels)", _named(batch, pair))
        if not pair[0].numel():
            continue
        if inputs and pair[0].shape[1:] != inputs[0].shape[1:]:
            found = f"{tuple(pair[0].shape[1:])} after {tuple(inputs[0].shape[1:])}"
            raise DataError("calibration", "inputs of one shape", found)
        limit = min(most, max(MAX_INPUTS, SMALL_NUMBERS // max(1, pair[0][0].numel())))
        taken: slice | Tensor = slice(limit - count)
        if not count and len(pair[0]) > limit:
            taken = torch.randperm(len(pair[0]), generator=torch.Generator().manual_seed(0))[:limit]
        inputs.append(pair[0].detach()[taken].cpu().float())
        if len(pair) > 1 and isinstance(pair[1], Tensor) and len(pair[1]) == len(pair[0]):
            labels.append(pair[1].detach()[taken].cpu())
        count += len(inputs[-1])
        if count >= limit:
            break
        if not whole:
            progress("reading inputs", count, limit)
    if not count:
        raise DataError("calibration", "at least one input", "none")
    joined = torch.cat(inputs)
    if not torch.isfinite(joined).all():
        raise DataError("calibration", "finite inputs", "NaN or infinity")
    known = torch.cat(labels) if labels else None
    return joined, known if known is not None and len(known) == len(joined) else None


def distinct(inputs: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return each of the different inputs once: how far moments can be trusted goes by how many there are.

    Raises:
        DataError: several inputs that are all alike, as a loader gives that is at fault.
    """
    first: dict[bytes, int] = {}
    for place, each in enumerate(inputs):
        first.setdefault(hashlib.sha256(each.contiguous().numpy()).digest(), place)
    if len(first) == len(inputs):
        return inputs, labels
    if len(first) == 1:
        raise DataError("calibration", "inputs that differ", f"{len(inputs):,} that are all alike")
    log.info("%d of %d inputs are repetitions of others, and left out", len(inputs) - len(first), len(inputs))
    places = list(first.values())
    return inputs[places], None if labels is None else labels[places]


def _named(batch: Any, pair: Any) -> str:
    """Return what a batch is that is none of floats."""
    if pair and isinstance(pair[0], Tensor):
        return f"a tensor of {str(pair[0].dtype).removeprefix('torch.')}"
    if pair and isinstance(pair[0], tuple | list | dict):
        return f"a {type(pair[0]).__name__} of {len(pair[0])}"
    return type(batch).__name__


def remembering(model: nn.Module) -> list[nn.Module]:
    """Return the layers that remember means and variances of what the network was trained on."""
    return [part for part in model.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]


def synthetic_inputs(
    model: nn.Module, image_size: int, count: int | None = None, *, progress: StageProgress = no_progress
) -> Tensor:
    """Return images, (count, 3, S, S), that match what the BatchNorm layers, one at least, have stored.

    Made where the network is, and returned on the CPU. Up to 256 small ones unless `count` says otherwise; 16 of
    ImageNet's size, which show as many places; fewer, down to 16, for a large network, as each takes time in
    proportion to it.

    Noise with the spectrum of natural images is changed by gradient descent until each BatchNorm layer sees the means
    and variances it has stored (Cai et al. 2020, arXiv 2001.00281).
    """
    model, device = copy.deepcopy(model).float().eval().requires_grad_(False), device_of(model)
    layout = fast_layout(model, natural_noise(2, image_size))
    model.to(memory_format=layout)  # type: ignore[call-overload]
    if count is None:
        affordable = SYNTHETIC_WORK // _work(model, natural_noise(1, image_size).to(device))
        numerous = min(SYNTHETIC, SYNTHETIC_NUMBERS // (3 * image_size**2) or 1)
        count = min(numerous, max(MIN_SYNTHETIC, affordable))
    images = natural_noise(count, image_size)
    misfits: list[Tensor] = []
    for norm in remembering(model):
        norm.register_forward_pre_hook(partial(_note_misfit, misfits))
    made: list[Tensor] = []
    with torch.enable_grad():
        for start in split_batches(images.contiguous(memory_format=layout)):
            batch = start.to(device, copy=True).requires_grad_(True)
            optimizer = torch.optim.Adam([batch], lr=RATE)
            for step in range(STEPS):
                progress("making up images", STEPS * sum(len(done) for done in made) + step * len(batch), STEPS * count)
                misfits.clear()
                model(batch)
                optimizer.zero_grad()
                torch.stack(misfits).sum().backward()
                optimizer.step()
            made.append(batch.detach().cpu())
    return torch.cat(made)


def natural_noise(count: int, size: int, *, seed: int = 0) -> Tensor:
    """Return noise whose amplitude falls with frequency, as natural images' does; (count, 3, S, S), variance 1."""
    draw = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.fft2(torch.randn(count, 3, size, size, generator=draw))
    frequency = torch.fft.fftfreq(size)
    radius = (frequency[:, None] ** 2 + frequency[None, :] ** 2).sqrt()
    radius[0, 0] = 1 / size
    noise = torch.fft.ifft2(spectrum / radius).real
    colours = torch.full((3, 3), COLOUR).fill_diagonal_(1.0)
    return torch.einsum("ij,njhw->nihw", torch.linalg.cholesky(colours), noise / noise.std())


@torch.no_grad()
def _work(model: nn.Module, image: Tensor) -> int:
    """Return the multiply-adds of convolutions and linear layers in a forward pass, at least 1."""
    counts = [1]
    names = {id(p): name for name, p in model.named_parameters()}
    with Watch(names, after=lambda _, call, output: counts.append(work(call, output))):
        model(image)
    return sum(counts)


def _note_misfit(misfits: list[Tensor], module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    x, mean, variance = inputs[0], module.running_mean, module.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return
    dims = [d for d in range(x.dim()) if d != 1]
    scale = variance.clamp_min(1e-8)
    off_mean = ((x.mean(dims) - mean).square() / scale).mean()
    off_spread = ((x.var(dims, unbiased=False) + 1e-8).sqrt() / scale.sqrt() - 1).square().mean()
    misfits.append(off_mean + off_spread)
