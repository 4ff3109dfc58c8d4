"""How far what a network answers is from what it should answer, in nats, for answers of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mess.scheme.learned.layerwise import device_of, split_batches

MAX_LOOKED_AT = 256  # inputs
SURE = 0.3  # mean of the largest probability, from which on the answers are taken for class scores
# Of its variance an output's squared error counts as so many nats at least: what are taken for scores may be features.
RELATIVE = 0.1
ROUNDING = 1e-12  # share of an answer's square that is float32's rounding, and no variance
MIXED = (0.25, 0.75)  # share of one image in a mixed one


@dataclass(frozen=True)
class Output:
    """One tensor of a network's answer.

    Attributes:
        nats: that a squared error of 1, summed over an input's numbers, stands for.
        scores: class scores: what all of them have in common says nothing.
    """

    nats: float
    scores: bool

    def strayed(self, error: Tensor) -> Tensor:
        """Return the divergence of an error, the mean over inputs."""
        if error.dim() < 2:
            error = error.reshape(-1, 1)
        if self.scores:
            error = error - error.mean(1, keepdim=True)
        return self.nats * error.square().flatten(1).sum(1).mean()

    def drawn(self, shape: Sequence[int], draw: torch.Generator) -> Tensor:
        """Return random numbers ξ, on the CPU, with which E(ξ·error)²/2 is the divergence of the error."""
        signs = torch.randint(0, 2, tuple(shape), generator=draw) * 2.0 - 1
        if self.scores:
            signs = signs - signs.mean(1, keepdim=True)
        return signs * (2 * self.nats) ** 0.5


def tensors(answer: Any) -> list[Tensor]:
    """Return the float tensors of an answer: a tensor, or any nest of tuples, lists, dicts and dataclasses."""
    return [x for x in _leaves(answer) if x.is_floating_point() and x.numel()]


def _leaves(answer: Any) -> Iterator[Tensor]:
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, Mapping):
        for value in answer.values():
            yield from _leaves(value)
    elif isinstance(answer, tuple | list):
        for value in answer:
            yield from _leaves(value)
    elif is_dataclass(answer):
        for each in fields(answer):
            yield from _leaves(getattr(answer, each.name))


@torch.no_grad()
def known_outputs(model: nn.Module, inputs: Tensor) -> list[Output]:
    """Return what each tensor of the answer is.

    Class scores: the divergence of noise on all scores alike is its variance times Σp(1−p)/2. A trained network is far
    surer of the images it was trained on than of others, so p are its answers to mixtures of two images as well.
    Other outputs: the squared error over the variance. Several outputs count alike.
    """
    inputs = inputs[:MAX_LOOKED_AT]
    plain = _answers(model, inputs)
    mixed = _answers(model, mixtures(inputs))
    return [_known(x, y, len(plain)) for x, y in zip(plain, mixed, strict=True)]


def mixtures(inputs: Tensor, seed: int = 0) -> Tensor:
    """Return mixtures of each input with another."""
    draw = torch.Generator().manual_seed(seed)
    low, high = MIXED
    share = low + (high - low) * torch.rand(len(inputs), *[1] * (inputs.dim() - 1), generator=draw)
    return share * inputs + (1 - share) * inputs.roll(1, 0)


def _answers(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    device = device_of(model)
    found = [[x.float() if x.dim() > 1 else x.float().reshape(-1, 1) for x in tensors(model(batch.to(device)))]
             for batch in split_batches(inputs, device)]  # fmt: skip
    return [torch.cat(each) for each in zip(*found, strict=True)]


def _known(plain: Tensor, mixed: Tensor, count: int) -> Output:
    both_NK = torch.cat([plain, mixed]).flatten(1).double()
    scores = plain.dim() == 2 and plain.shape[1] > 1 and float(plain.softmax(1).amax(1).mean()) >= SURE
    if scores:
        both_NK = both_NK - both_NK.mean(1, keepdim=True)
    power = float(both_NK.square().sum(1).mean())
    spread = float((both_NK - both_NK.mean(0)).square().sum(1).mean())
    if spread <= ROUNDING * power:  # all answers alike, as of a single input
        spread = power or 1.0
    if not scores:
        return Output(1 / (spread * count), scores=False)
    chances_NK = both_NK.softmax(1)
    unsure = float((chances_NK * (1 - chances_NK)).sum(1).mean())
    return Output(max(0.5 * unsure / (plain.shape[1] - 1), RELATIVE / spread) / count, scores=True)
