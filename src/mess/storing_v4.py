"""Version 4 to the codec's form: joins `mess.scheme.learned` (tensors) with `mess.codec` (bytes).

::

    model, inputs ── learn ──► integers, references, vectors ── as_stored ──► StoredModel ──► X.mess

The rate is chosen by `divergence` (nats), by a size in bytes of the real file, or by how much accuracy may go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mess import codec
from mess.codec.quantize import BITS
from mess.conversion import Conversion, identified, layout_of
from mess.conversion_v4 import as_stored, reported
from mess.errors import OptionError
from mess.models import Architecture
from mess.scheme import check_weights
from mess.scheme.learned import (
    Learned,
    LearnOptions,
    gather_inputs,
    learn,
    synthetic_inputs,
    trimmed,
)
from mess.scheme.learned.passes import Progress, silent

REST_BITS = 8
IMAGE_SIZES = {"imagenet": 224}
CIFAR_SIZE = 32
BELOW = 0.99  # of the target size: a file lands between this and the target
ABOVE = 1.01  # of the target size: what is aimed at, because bytes can be taken off at the end but not added
NEAR = 0.01  # how near, in the logarithm of bytes, drafts come to the target
MOST_TRIM = 0.15  # of a bin: as far as taking off bytes at the end goes
DRAFT_INPUTS = 128
DRAFTS = 8  # at most, to find a rate
FULL_RUNS = 4  # at most, once a rate is found
DROP_TRIES = 5
SMALLEST, LARGEST = 1e-6, 10.0  # nats


USUAL_POWER = 2.5  # by which the divergence changes with the size, until two points say
# Made-up pictures say less about the network: stay nearer to it, and do not train on them, which gains nothing.
WITHOUT_IMAGES = LearnOptions(divergence=0.004, steps=0)
Point = tuple[float, int]  # divergence in nats, bytes of the file


@dataclass(frozen=True)
class V4Options:
    """How version 4 stores; validates itself.

    Attributes:
        learning: rate and effort.
        rest_bits: of BatchNorm vectors, biases and whatever else no reference stands for: 2…12, 16 or 32.
        self_contained: names and shapes stay in the file.
    """

    learning: LearnOptions = field(default_factory=LearnOptions)
    rest_bits: int = REST_BITS
    self_contained: bool = False

    def __post_init__(self) -> None:
        if self.rest_bits not in BITS:
            raise OptionError("--rest-bits", "2…12, 16 or 32", self.rest_bits)


def v4_options(
    *,
    calibrated: bool,
    divergence: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    **others: Any,
) -> V4Options:
    """Return the options that suit a network with or without inputs to look at, with those put in that are given.

    Args:
        calibrated: whether inputs are given.
        divergence, steps, seed: fields of `LearnOptions`; None: the default.
        others: other fields of `V4Options`.
    """
    learning = LearnOptions() if calibrated else WITHOUT_IMAGES
    given: dict[str, Any] = {"divergence": divergence, "steps": steps, "seed": seed}
    return V4Options(replace(learning, **{k: v for k, v in given.items() if v is not None}), **others)


def compress_v4(
    network: nn.Module | Mapping[str, Tensor], calibration: Iterable[Any] | Tensor | None = None, **options: Any
) -> codec.StoredModel:
    """Return what a file of version 4 says; takes and raises what `convert_v4` does."""
    return convert_v4(network, calibration, **options).stored


def convert_v4(
    network: nn.Module | Mapping[str, Tensor],
    calibration: Iterable[Any] | Tensor | None = None,
    *,
    target_size: int | None = None,
    max_drop: float | None = None,
    options: V4Options | None = None,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Conversion:
    """Store a network by learned references.

    Args:
        network: any module, or a state dict of a network of the zoo; it stays as it is.
        calibration: inputs as the network takes them (normalised): a tensor, or batches of inputs or of (inputs,
            labels); the first 1,024 are used. None: pictures are made up from the BatchNorm layers (networks of the
            zoo only).
        target_size: bytes of the file; what is returned encodes to 99 to 100 % of it, or less where less is needed.
        max_drop: accuracy that may be lost, in points, as measured on the calibration inputs: with their labels, or
            without as the probability that the float network gives to the stored network's answers.
        options: rate and effort where no target says them; the default depends on whether there are inputs.
        architecture: which network of the zoo a state dict is; found out if None.
        about: facts for the file: "mean" and "std" with the network, all else with the scheme.

    Raises:
        OptionError: a target that cannot be reached (with the smallest size), two targets at once, no inputs.
    """
    options = options or v4_options(calibrated=calibration is not None)
    weights, module, architecture = identified(network, architecture)
    if module is None:
        raise OptionError("version v4", "a module, or the weights of a network of the zoo", "other weights")
    if target_size is not None and max_drop is not None:
        raise OptionError("--target-size", "one target", "--max-drop as well")
    check_weights(weights)
    if calibration is not None:
        inputs, labels = gather_inputs(calibration)
    else:
        inputs, labels = _made_up(module, architecture, progress), None
    run = _Run(module, weights, inputs, labels, options, architecture, dict(about or {}), progress)
    if target_size is not None:
        stored = run.to_size(target_size)
    elif max_drop is not None:
        stored = run.to_drop(max_drop)
    else:
        stored = run.store(learn(module, inputs, options.learning, progress=progress))
    return reported(stored, weights)


@dataclass(frozen=True)
class _Run:
    module: nn.Module
    weights: Mapping[str, Tensor]
    inputs: Tensor
    labels: Tensor | None
    options: V4Options
    architecture: Architecture | None
    about: dict[str, Any]
    progress: Progress

    def learned(self, divergence: float, *, draft: bool = False) -> Learned:
        options = replace(self.options.learning, divergence=divergence)
        inputs = self.inputs[:DRAFT_INPUTS] if draft else self.inputs
        return learn(self.module, inputs, options, progress=self.progress, draft=draft)

    def store(self, learned: Learned) -> codec.StoredModel:
        return as_stored(
            learned, self.weights, self.options.rest_bits, architecture=self.architecture, about=self.about
        )

    def bytes(self, stored: codec.StoredModel) -> int:
        named = None if self.options.self_contained or self.architecture is None else layout_of
        return len(codec.encode_model(stored, named))

    def to_size(self, target: int) -> codec.StoredModel:
        """Find a rate on quick drafts, aim a little above the target, and take the last bytes off at the end."""
        points: list[Point] = []
        divergence = self.options.learning.divergence
        while len(points) < DRAFTS:
            points.append((divergence, self._sized(self.learned(divergence, draft=True))[0]))
            stuck = len(points) > 1 and points[-1][1] == points[-2][1]
            if points[-1][1] > target and (stuck or divergence == LARGEST):
                raise OptionError("--target-size", f"at least {points[-1][1]:,} bytes for this network", f"{target:,}")
            divergence = _next_divergence(points, target)
            if stuck or abs(math.log(points[-1][1] / target)) < NEAR or divergence == points[-1][0]:
                break
        best: tuple[int, codec.StoredModel | None] = (0, None)
        runs: list[Point] = []
        above: tuple[int, Learned | None] = (1 << 62, None)
        while len(runs) < FULL_RUNS and best[0] < BELOW * target:
            learned = self.learned(divergence)
            size, stored = self._sized(learned)
            runs.append((divergence, size))
            if size > target:
                above = min(above, (size, learned), key=lambda pair: pair[0])
                size, stored = self._trimmed(learned, target, MOST_TRIM) or (0, stored)
            best = max(best, (size, stored), key=lambda pair: pair[0])
            following = _next_divergence(runs, ABOVE * target, _power(points))
            if following == divergence:  # as coarse or as fine as it gets
                break
            divergence = following
        if best[0] < BELOW * target and above[1] is not None:  # rates too coarse to hit it: take off whatever it needs
            best = max(best, self._trimmed(above[1], target, 0.5) or best, key=lambda pair: pair[0])
        if best[1] is None:
            least = min(size for _, size in runs)
            raise OptionError("--target-size", f"at least {least:,} bytes for this network", f"{target:,}")
        return best[1]

    def _trimmed(self, learned: Learned, target: int, high: float) -> tuple[int, codec.StoredModel] | None:
        """Bisect the margin, up to `high`, that numbers lose until the file fits; None where that is too little."""
        low, best = 0.0, self._sized(trimmed(learned, high))
        if best[0] > target:
            return None
        for _ in range(12):
            if best[0] >= (1 + BELOW) / 2 * target:
                break
            middle = (low + high) / 2
            found = self._sized(trimmed(learned, middle))
            low, high = (middle, high) if found[0] > target else (low, middle)
            best = found if found[0] <= target else best
        return best

    def _sized(self, learned: Learned) -> tuple[int, codec.StoredModel]:
        stored = self.store(learned)
        return self.bytes(stored), stored

    def to_drop(self, drop: float) -> codec.StoredModel:
        """Bisect the logarithm of the rate for the smallest file that loses no more than `drop` points."""
        if drop <= 0:
            raise OptionError("--max-drop", "points above 0", drop)
        low, high = math.log(SMALLEST), math.log(1.0)
        best = None
        guess = math.log(self.options.learning.divergence)
        for _ in range(DROP_TRIES):
            learned = self.learned(math.exp(guess))
            stored = self.store(learned)
            if accuracy_lost(self.module, learned.model, self.inputs, self.labels) <= drop:
                low, best = guess, stored
                guess = min((guess + high) / 2, guess + 1.0)
            else:
                high = guess
                guess = max((guess + low) / 2, guess - 1.5)
        if best is None:
            raise OptionError("--max-drop", "more points for this network", drop, "Try a larger one")
        return best


@torch.inference_mode()
def accuracy_lost(original: nn.Module, stored: nn.Module, inputs: Tensor, labels: Tensor | None) -> float:
    """Return points of accuracy that the stored network lost here; `convert_v4` says what no labels mean."""
    was_training = original.training
    original.eval()
    lost = 0.0
    try:
        places = torch.arange(len(inputs))
        for batch, place in zip(inputs.split(256), places.split(256), strict=True):
            before, after = original(batch), stored(batch)
            if before.dim() != 2:
                raise OptionError("--max-drop", "a network whose output is class scores", tuple(before.shape))
            answers = before.argmax(1), after.argmax(1)
            if labels is not None:
                lost += float((answers[0] == labels[place]).sum() - (answers[1] == labels[place]).sum())
            else:
                trust = before.softmax(1)
                lost += float(trust.gather(1, answers[0][:, None]).sum() - trust.gather(1, answers[1][:, None]).sum())
    finally:
        original.train(was_training)
    return 100 * lost / len(inputs)


def _made_up(module: nn.Module, architecture: Architecture | None, progress: Progress) -> Tensor:
    if architecture is None:
        raise OptionError("calibration", "inputs, for a network that is not in the zoo", "none")
    small = architecture.dataset in ("cifar10", "cifar100", "digits")
    return synthetic_inputs(module, CIFAR_SIZE if small else IMAGE_SIZES["imagenet"], progress=progress)


def _next_divergence(points: list[Point], target: float, usual: float = USUAL_POWER) -> float:
    """Return the divergence at which the file should have `target` bytes.

    Logarithms are interpolated between the nearest points on both sides of the target, or extrapolated from the last
    two.
    """
    above = min((p for p in points if p[1] > target), key=lambda p: p[1], default=None)
    below = max((p for p in points if p[1] <= target), key=lambda p: p[1], default=None)
    pair = [above, below] if above and below else points[-2:]
    divergence, size = min(pair, key=lambda p: abs(math.log(p[1] / target)))
    return min(max(divergence * (size / target) ** _power(pair, usual), SMALLEST), LARGEST)


def _power(points: list[Point], usual: float = USUAL_POWER) -> float:
    """Return by which power of a change of size the divergence changes between the last two points."""
    if len(points) < 2:
        return usual
    (d0, b0), (d1, b1) = points[-2:]
    power = -math.log(d1 / d0) / math.log(b1 / b0) if b1 != b0 else 0.0
    return power if 0.2 < power < 20 else usual
