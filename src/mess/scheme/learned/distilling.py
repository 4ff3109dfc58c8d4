"""Letting rounded layers settle together: a short training through the decoder, with the float network as the teacher.

No labels: the stored network is to say what the float network says on the same inputs. Roundings move by
straight-through gradients (Bengio et al. 2013, arXiv 1308.3432) against a price for the bits they take; steps,
BatchNorm and biases move freely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mess.scheme.learned.latent import Latent
from mess.scheme.learned.layerwise import StageProgress, device_of, no_progress
from mess.scheme.learned.outputs import Output, tensors
from mess.scheme.learned.rate_model import RateModel

REFRESH = 20  # steps between two looks at how long the integers' codes are
WARM_UP = 10  # steps
SHIFT = 8  # an image is moved by up to an eighth of its size


def distil(
    stored: nn.Module,
    teacher: nn.Module,
    latents: Mapping[str, Latent],
    inputs: Tensor,
    outputs: list[Output],
    *,
    steps: int,
    lmbda: float,
    batch_size: int = 128,
    lr: float = 5e-3,
    seed: int = 0,
    kept: Set[str] = frozenset(),
    progress: StageProgress = no_progress,
) -> None:
    """Train latents and the vectors of `stored` (BatchNorm, biases) in place.

    Args:
        latents: by name of the weight in the state dict of `stored`.
        inputs: images or other inputs; images are mirrored and moved a little.
        lmbda: λ, the price of one bit in nats of divergence.
        kept: names of vectors that stay as they are.
        lr: Adam's learning rate for latents, in steps; vectors and log-steps get a tenth.
    """
    draw = torch.Generator().manual_seed(seed)
    named, device = dict(stored.named_parameters()), device_of(stored)
    for latent in latents.values():
        latent.move(device)
    vectors = [p for name, p in named.items() if name not in latents and name not in kept and p.dim() <= 1]
    frozen = [p for name, p in named.items() if p.dim() > 1 or name in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(
        [
            {"params": [x.values_OCT for x in latents.values()], "lr": lr},
            {"params": [x.log_step for x in latents.values()] + vectors, "lr": lr / 10},
        ],
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1.0, (i + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * i / steps))
    )
    values = {name: latent.values_OCT for name, latent in latents.items()}
    rate_model = RateModel(values, REFRESH)
    with torch.enable_grad():
        for i in range(steps):
            progress("distilling", i, steps)
            batch = _varied(inputs[torch.randperm(len(inputs), generator=draw)[:batch_size]], draw).to(device)
            with torch.no_grad():
                wanted = tensors(teacher(batch))
            weights = {name: latent.weight() for name, latent in latents.items()}
            found = tensors(torch.func.functional_call(stored, weights, (batch,)))
            strayed = [o.strayed(x - y) for o, x, y in zip(outputs, found, wanted, strict=True)]
            loss = torch.stack(strayed).sum() + lmbda * rate_model.bits(values)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            rate_model.after_step(i + 1, values)
    for parameter in frozen:
        parameter.requires_grad_(True)


def divergence(output: Tensor, wanted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of class scores, in nats; of other outputs half the squared error."""
    if output.dim() == 2 and output.shape[1] > 1:
        return F.kl_div(output.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean")
    return 0.5 * (output - wanted).square().flatten(1).sum(1).mean()


def _varied(batch: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror and move images; anything else stays as it is."""
    if batch.dim() != 4 or min(batch.shape[2:]) < SHIFT:
        return batch
    count, _, height, width = batch.shape
    mirror = torch.rand(count, 1, 1, 1, generator=draw) < 0.5
    batch = torch.where(mirror, batch.flip(3), batch)
    down, across = height // SHIFT, width // SHIFT
    padded = F.pad(batch, (across, across, down, down))
    top = torch.randint(0, 2 * down + 1, (count, 1), generator=draw) + torch.arange(height)
    left = torch.randint(0, 2 * across + 1, (count, 1), generator=draw) + torch.arange(width)
    place = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[place, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)
