"""How far what a network answers is from what it should answer, in nats, for answers of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mess.errors import OptionError
from mess.scheme.learned.layerwise import device_of, split_batches

MAX_LOOKED_AT = 256  # inputs
SURE = 0.3  # mean of the largest probability, from which on the answers are taken for class scores
# Of its variance an output's squared error counts as so many nats at least: what are taken for scores may be features.
RELATIVE = 0.1
TINY = 1e-30  # a probability that is none
NEAR_ONE = 1e-3  # how far from 1 probabilities of all classes may sum up to
ROUNDING = 1e-12  # share of an answer's square that is float32's rounding, and no variance
MIXED = (0.25, 0.75)  # share of one image in a mixed one


@dataclass(frozen=True)
class Output:
    """One tensor of a network's answer.

    Attributes:
        nats: that a squared error of 1, summed over an input's numbers, stands for.
        relative: the same over the variance.
        scores: class scores: what all of them have in common says nothing.
        probabilities: the softmax of class scores, whose logarithms are looked at in place of them.
        doubtful: two or three numbers, of which one is always much the largest: scores, or values all the same.
    """

    nats: float
    relative: float
    scores: bool
    probabilities: bool = False
    doubtful: bool = False

    def told(self, answer: Tensor) -> Tensor:
        """Return class scores in place of their softmax, anything else as it is; (N, …) float32."""
        answer = answer.float() if answer.dim() > 1 else answer.float().reshape(-1, 1)
        return answer.clamp_min(TINY).log() if self.probabilities else answer

    def error(self, wanted: Tensor, found: Tensor) -> Tensor:
        """Return the squared error of what was `told` over the variance, the mean over inputs."""
        error = found - wanted
        if self.scores and not self.doubtful:
            error = error - error.mean(1, keepdim=True)
        return self.relative * error.square().flatten(1).sum(1).mean()

    def strayed(self, wanted: Tensor, found: Tensor) -> Tensor:
        """Return how far the one is from the other, the mean over inputs: of scores the divergence, or `error`.

        What may be values as well counts by its error, too, where that is more.
        """
        error = self.error(wanted, found)
        if not self.scores:
            return error
        divergence = F.kl_div(found.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean")
        return torch.maximum(divergence, RELATIVE * error) if self.doubtful else divergence

    def drawn(self, shape: Sequence[int], draw: torch.Generator) -> Tensor:
        """Return random numbers ξ, on the CPU, with which E(ξ·error)²/2 is the divergence of the error."""
        signs = torch.randint(0, 2, tuple(shape), generator=draw) * 2.0 - 1
        if self.scores and not self.doubtful:
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
    Where a network ends in a softmax, what that was taken of. Other outputs: the squared error over the variance.
    Several outputs count alike.
    """
    inputs = inputs[:MAX_LOOKED_AT]
    plain = _answers(model, inputs)
    mixed = _answers(model, mixtures(inputs))
    check_alike(plain, mixed)
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
    check_alike(found[0], *found[1:])
    return [torch.cat(each) for each in zip(*found, strict=True)]


def check_alike(first: Sequence[Tensor], *others: Sequence[Tensor]) -> None:
    """Refuse answers that are not comparable, as of a detector that puts out as many boxes as it finds.

    Raises:
        OptionError: not as many tensors, or of other shapes but for the first axis.
    """
    shapes = [tuple(x.shape[1:]) for x in first]
    for other in others:
        if (found := [tuple(x.shape[1:]) for x in other]) != shapes:
            expected = "a network whose answers have the same shapes each time"
            raise OptionError(
                "version v4", expected, f"{found} after {shapes}", "Give what comes before they are chosen"
            )


def _known(plain: Tensor, mixed: Tensor, count: int) -> Output:
    both_NK = torch.cat([plain, mixed]).flatten(1).double()
    of_classes = plain.dim() == 2 and plain.shape[1] > 1
    sums_N = both_NK.sum(1)
    probabilities = of_classes and float(both_NK.min()) >= 0 and float((sums_N - 1).abs().max()) <= NEAR_ONE
    scores = probabilities or (of_classes and float(plain.softmax(1).amax(1).mean()) >= SURE)
    doubtful = scores and not probabilities and SURE * plain.shape[1] <= 1
    if probabilities:
        both_NK = both_NK.clamp_min(TINY).log()
    if scores and not doubtful:
        both_NK = both_NK - both_NK.mean(1, keepdim=True)
    power = float(both_NK.square().sum(1).mean())
    spread = float((both_NK - both_NK.mean(0)).square().sum(1).mean())
    if spread <= ROUNDING * power:  # all answers alike, as of a single input
        spread = power or 1.0
    if not scores:
        return Output(1 / (spread * count), 1 / spread, scores=False)
    chances_NK = both_NK.softmax(1)
    unsure = float((chances_NK * (1 - chances_NK)).sum(1).mean())
    nats = max(0.5 * unsure / (plain.shape[1] - 1), RELATIVE / spread) / count
    return Output(nats, 1 / spread, scores=True, probabilities=probabilities, doubtful=doubtful)
