"""Finding the rate of version 4: from bytes of the file, or from accuracy on inputs that nothing was learned from.

A *draft* is a network rounded after a look at a few inputs, without distilling: it takes seconds, is as large as the
real one within some per cent, and loses more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from mess.codec import StoredModel
from mess.errors import OptionError
from mess.scheme.learned import Learned, LearnOptions, learn, trimmed
from mess.scheme.learned.passes import Progress, batched

BELOW = 0.99  # of the target size: a file lands between this and the target
AIMED_AT = 0.995  # of the target size
NEAR = 0.01  # how near, in the logarithm of bytes, drafts come to the target
MOST_TRIM = 0.5  # of a bin: as far as taking off bytes at the end goes
DRAFT_INPUTS = 128
DRAFT_HELD = 1024  # inputs that a draft's loss is measured on
DRAFTS = 8  # at most, to find a rate
FULL_RUNS = 4  # at most for a drop, once a rate is found
SIZE_RUNS = 6  # at most for a size
SMALLEST, LARGEST = 1e-6, 10.0  # nats
USUAL_POWER = 2.5  # by which the divergence changes with the size, until two points say
# Loss of accuracy is about proportional to the divergence; ResNets and a WideResNet lost two thirds of what drafts did.
DRAFT_LOSS = 1.2  # of the drop allowed is what a draft should lose, for rounding with all inputs to lose `AIM` of it
LEAST_LOST = 1 / 16  # of the drop that is looked for: less than that is noise
NEAR_DROP = (0.75, 1.25)  # of the drop looked for: near enough for a draft
ENOUGH = 0.6  # of the drop allowed: a file that loses as much need not lose more
AIM = 0.8  # of the drop allowed
CLOSE = 1.25  # rates that differ by less than this factor lose the same
Point = tuple[float, int]  # divergence in nats, bytes of the file


@dataclass(frozen=True)
class Held:
    """Inputs that nothing is learned from, to measure on what a stored network has lost.

    Attributes:
        labels: what is right; None: the float network's answers are right with the probability that it gives them.
    """

    inputs: Tensor
    labels: Tensor | None

    def first(self, count: int | None) -> Held:
        """Return the first `count` of them, or all."""
        return Held(self.inputs[:count], self.labels[:count] if self.labels is not None else None)


@dataclass(frozen=True)
class Search:
    """What is known of a network to be stored, and how to store it.

    Attributes:
        inputs: what it is looked at with.
        held: other inputs, which what it lost is measured on.
        learning: all but the rate.
        store: makes the form that is written.
        restore: makes of it the weights that are read.
        size: bytes that this form takes in a file.
    """

    module: nn.Module
    inputs: Tensor
    held: Held
    learning: LearnOptions
    store: Callable[[Learned], StoredModel]
    restore: Callable[[StoredModel], Mapping[str, Tensor]]
    size: Callable[[StoredModel], int]
    progress: Progress

    def learned(self, divergence: float) -> Learned:
        """Round the network at a rate, and distil."""
        return learn(self.module, self.inputs, replace(self.learning, divergence=divergence), progress=self.progress)

    def rounded(self, divergence: float, count: int | None = None) -> Learned:
        """Round it without distilling, which takes longest, with a look at all inputs or the first `count`."""
        options = replace(self.learning, divergence=divergence)
        return learn(self.module, self.inputs[:count], options, progress=self.progress, draft=True)

    def to_size(self, target: int) -> StoredModel:
        """Find a rate on quick drafts, and change it until a whole run takes 99 to 100 % of the target."""
        points: list[Point] = []
        divergence = self.learning.divergence
        while len(points) < DRAFTS:
            points.append((divergence, self._sized(self.rounded(divergence, DRAFT_INPUTS))[0]))
            stuck = len(points) > 1 and points[-1][1] == points[-2][1]
            if points[-1][1] > target and (stuck or divergence == LARGEST):
                raise OptionError("--target-size", f"at least {points[-1][1]:,} bytes for this network", f"{target:,}")
            divergence = _next_divergence(points, target)
            if stuck or abs(math.log(points[-1][1] / target)) < NEAR or divergence == points[-1][0]:
                break
        best: tuple[int, StoredModel | None] = (0, None)
        runs: list[Point] = []
        above: tuple[int, Learned | None] = (1 << 62, None)
        while len(runs) < SIZE_RUNS and best[0] < BELOW * target:
            learned = self.learned(divergence)
            size, stored = self._sized(learned)
            runs.append((divergence, size))
            if size > target:
                above = min(above, (size, learned), key=lambda pair: pair[0])
            else:
                best = max(best, (size, stored), key=lambda pair: pair[0])
            following = _next_divergence(runs, AIMED_AT * target, _power(points))
            if following == divergence:  # as coarse or as fine as it gets
                break
            divergence = following
        if best[1] is None and above[1] is not None:  # take off whatever it needs; no other numbers make up for that
            best = self._trimmed(above[1], target) or best
        if best[1] is None:
            least = min(size for _, size in runs)
            raise OptionError("--target-size", f"at least {least:,} bytes for this network", f"{target:,}")
        return best[1]

    def to_drop(self, drop: float) -> StoredModel:
        """Find a rate on quick drafts, and change it until rounding loses no more than `drop` points, nor much less.

        Then distil; what comes of it is taken where it loses less.

        Raises:
            OptionError: points that are not above 0, or fewer than the finest rates lose.
        """
        if drop <= 0:
            raise OptionError("--max-drop", "points above 0", drop)
        divergence = self._drafted(DRAFT_LOSS * drop)
        fine, coarse = 0.0, math.inf  # the coarsest rate that kept to the drop, and the finest that did not
        best: tuple[float, StoredModel] | None = None
        for run in range(DRAFTS):
            stored = self.store(self.rounded(divergence))
            lost = self.lost(stored)
            if lost <= drop:
                fine, best = divergence, (lost, stored)
            else:
                coarse = divergence
            done = ENOUGH * drop <= lost <= drop or (best is not None and run >= FULL_RUNS - 1)
            if done or coarse / CLOSE < fine or not SMALLEST < divergence < LARGEST:
                break
            if fine > 0 and coarse < math.inf:
                divergence = math.sqrt(fine * coarse)
            else:
                divergence = min(_scaled(divergence, AIM * drop, lost), coarse / 2)
        if best is None:
            raise OptionError("--max-drop", "more points for this network", drop, "Try a larger one")
        if self.learning.steps:
            distilled = self.store(self.learned(fine))
            best = min(best, (self.lost(distilled), distilled), key=lambda pair: pair[0])
        return best[1]

    def lost(self, stored: StoredModel, count: int | None = None) -> float:
        """Return points of accuracy that a file loses on the inputs held apart, or the first `count` of them."""
        again = copy.deepcopy(self.module)
        again.load_state_dict(self.restore(stored))
        return accuracy_lost(self._answers[:count], again, self.held.first(count))

    @cached_property
    def _answers(self) -> Tensor:
        return answers(self.module, self.held.inputs)

    def _drafted(self, drop: float) -> float:
        divergence = self.learning.divergence
        for _ in range(DRAFTS):
            lost = self.lost(self.store(self.rounded(divergence, DRAFT_INPUTS)), DRAFT_HELD)
            if NEAR_DROP[0] * drop <= lost <= NEAR_DROP[1] * drop or not SMALLEST < divergence < LARGEST:
                break
            divergence = _scaled(divergence, drop, lost)
        return divergence

    def _sized(self, learned: Learned) -> tuple[int, StoredModel]:
        stored = self.store(learned)
        return self.size(stored), stored

    def _trimmed(self, learned: Learned, target: int) -> tuple[int, StoredModel] | None:
        """Bisect the margin that numbers lose until the file fits; None where `MOST_TRIM` is too little."""
        low, high = 0.0, MOST_TRIM
        best = self._sized(trimmed(learned, high))
        if best[0] > target:
            return None
        for _ in range(12):
            if best[0] >= AIMED_AT * target:
                break
            middle = (low + high) / 2
            found = self._sized(trimmed(learned, middle))
            low, high = (middle, high) if found[0] > target else (low, middle)
            best = found if found[0] <= target else best
        return best


@torch.inference_mode()
def answers(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a network answers in eval mode and in float32; it is left as it is."""
    module = copy.deepcopy(module).cpu().float().eval()
    return torch.cat([module(batch) for batch in batched(inputs)])


def accuracy_lost(before: Tensor, stored: nn.Module, held: Held) -> float:
    """Return points of accuracy that a stored network lost on inputs whose float `answers` are `before`.

    Raises:
        OptionError: answers that are no class scores.
    """
    if before.dim() != 2:
        raise OptionError("--max-drop", "a network whose output is class scores", tuple(before.shape))
    was, now = before.argmax(1), answers(stored, held.inputs).argmax(1)
    if held.labels is not None:
        return 100 * float((was == held.labels).float().mean() - (now == held.labels).float().mean())
    trust = before.softmax(1)
    return 100 * float((trust.gather(1, was[:, None]) - trust.gather(1, now[:, None])).mean())


def _scaled(divergence: float, wanted: float, lost: float) -> float:
    return min(max(divergence * wanted / max(lost, LEAST_LOST * wanted), SMALLEST), LARGEST)


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
