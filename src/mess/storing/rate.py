"""Finding the rate of version 4: from bytes of the file, or from accuracy on inputs that nothing was learned from.

A *draft* is a network rounded after a look at a few inputs: it takes seconds, is as large as the real one within some
per cent, and loses more.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from mess import codec
from mess.codec import StoredModel
from mess.errors import OptionError, RangeError
from mess.scheme.learned import LearnOptions, StageProgress, device_of, no_progress, split_batches
from mess.scheme.learned.inputs import MAX_INPUTS
from mess.storing.entries import Coded
from mess.storing.load import to_tensors
from mess.storing.look import MAX_INPUTS as MAX_LOOKED_AT
from mess.storing.look import FloatNetwork, Look

log = logging.getLogger("mess.storing")
BELOW = 0.991  # of the target size: a file lands between this and the target, or 0.99 once it says what was seen of it
AIMED_AT = 0.996  # of the target size
USUAL_LOOK = Look(MAX_LOOKED_AT, 1.23e-05, 98.76, held_out=True)  # takes about as many bytes as what is seen in the end
SPARE = 12  # bytes that it may take more
NUDGE = 1.003  # times a rate that was tried, for another: rounding is a little different, and sizes by about a per cent
NEAR = 0.03  # how near, in the logarithm of bytes, drafts come to the target; whole runs differ from them by as much
DRAFT_INPUTS = 128
DRAFT_HELD = 1024  # inputs that a draft's loss is measured on
DRAFTS = 8  # at most, to find a rate
FULL_RUNS = 4  # at most for a drop, once a rate is found
SIZE_RUNS = 20  # at most for a size: few are needed but for networks of some thousand weights, whose sizes scatter
SCATTER = 0.06  # in the logarithm: points as near to the target as this differ by chance as well
SEVERAL = 3  # of them tell together where the target is
# A little change of the rate changes all that follows, and the size by some per cent; in the last layers less follows.
LAST = 0.25  # of a network's numbers
NONE_FINER: Mapping[str, float] = {}
MIN_DIVERGENCE, MAX_DIVERGENCE = 1e-6, 10.0  # nats
USUAL_POWER = 2.5  # by which the divergence changes with the size, until two points say
# Loss of accuracy is about proportional to the divergence; ResNets and a WideResNet lost two thirds of what drafts did.
DRAFT_LOSS = 1.2  # of the drop allowed is what a draft should lose, for rounding with all inputs to lose `AIM` of it
MIN_LOST = 1 / 16  # of the drop that is looked for: less than that is noise
NEAR_DROP = (0.75, 1.25)  # of the drop looked for: near enough for a draft
ENOUGH = 0.6  # of the drop allowed: a file that loses as much need not lose more
AIM = 0.8  # of the drop allowed
CLOSE = 1.25  # rates that differ by less than this factor lose the same
LOOKS = 4  # at most, until a file strays no further than it may
LOOSE = 1.25  # times the divergence asked for: what the inputs looked at may be wrong by
NEARLY = 0.6  # of the divergence asked for: a file that strays less is 10% larger than it need be
TELLING = 128  # inputs: what fewer say of a file that was learned from them makes none coarser
MAX_COARSER = 2.0  # times as coarse: what is looked at may be what was learned from, and unseen inputs stray further
BEYOND = 1.1  # times a rate, for the next one to be a different one
MIN_RATE_RATIO = 1 / 30  # from one rate to the next
LEAST_POWER = 0.3  # of the rate, that what a file strays by goes with
Point = tuple[float, int]  # divergence in nats, bytes of the file


@dataclass(frozen=True)
class HeldOut:
    """Inputs to measure on what a stored network has lost.

    Attributes:
        labels: what is right; None: the float network is right with the probability that it gives to its own classes.
        learned_from: they are not held out, as there are too few of them.
        made_up: there were none, and these were made up.
    """

    inputs: Tensor
    labels: Tensor | None
    learned_from: bool = False
    made_up: bool = False

    def first(self, count: int | None) -> HeldOut:
        """Return the first `count` of them, or all."""
        return replace(
            self, inputs=self.inputs[:count], labels=self.labels[:count] if self.labels is not None else None
        )


def hold_out(inputs: Tensor, labels: Tensor | None, share: int) -> tuple[Tensor, HeldOut]:
    """Part what to learn from, `MAX_INPUTS`, from what to measure on: the rest, or one in `share` of fewer inputs.

    They are drawn: inputs may come class by class.
    """
    count = MAX_INPUTS if len(inputs) >= MAX_INPUTS + MAX_INPUTS // 4 else len(inputs) - len(inputs) // share
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    learned, held = order[:count], order[count:]
    return inputs[learned], HeldOut(inputs[held], labels[held] if labels is not None else None)


@dataclass(frozen=True)
class Search:
    """What is known of a network to be stored, and how to store it; what it finds has been looked at.

    Attributes:
        module: where it is, it is looked at.
        inputs: what it is looked at with.
        held_out: other inputs, which what it lost is measured on.
        learning: all but the rate.
        rounded: (inputs, learning, progress) → the network in the codec's form.
        write: makes of that the whole of what is written.
        layout: says names and shapes that the file need not say.
        progress: told which round of how many it is, and how far that has come.
    """

    module: nn.Module
    inputs: Tensor
    held_out: HeldOut
    learning: LearnOptions
    rounded: Callable[[Tensor, LearnOptions, StageProgress], Coded]
    write: Callable[[Coded], StoredModel]
    layout: codec.Layout | None
    progress: StageProgress = no_progress

    def rounded_at(
        self, divergence: float, what: str, *, count: int | None = None, finer: Mapping[str, float] = NONE_FINER
    ) -> Coded:
        """Round the network at a rate.

        Args:
            what: names the round.
            count: look at the first of the inputs; None: at all.
            finer: layers whose steps are smaller by these factors still.
        """
        both = {name: factor * self.learning.finer.get(name, 1.0) for name, factor in finer.items()}
        learning = replace(self.learning, divergence=divergence, finer={**self.learning.finer, **both})

        def tell(stage: str, done: int, total: int) -> None:
            self.progress(f"{what}: {stage}", done, total)

        return self.rounded(self.inputs[:count], learning, tell)

    def to_divergence(self, divergence: float, *, met: bool) -> Coded:
        """Round at the rate of `divergence`, and more finely until the file, looked at, has strayed no further.

        The estimate that λ follows from is a second-order one, of a few inputs: what it says is tried.

        Args:
            met: a file that strays much less than it may is rounded once more, as much more coarsely.

        Raises:
            OptionError: it strays further at the finest rate that was tried.
        """
        rate, best, good = divergence, math.inf, None
        strayed: list[tuple[float, float]] = []  # rates, and how far what was rounded at them strays
        for number in range(1, LOOKS + 1):
            try:
                coded = self.rounded_at(rate, f"round {number} of up to {LOOKS}")
                found = self.look(coded)
            except RangeError:
                if good is None:
                    raise
                return good
            log.info("round %d, rounded for a divergence of %.3g: %s", number, rate, found)
            if found.divergence <= LOOSE * divergence:
                coded = replace(coded, look=found)
                near = found.divergence >= NEARLY * divergence
                if near or not met or number > 1 or len(self.inputs) < TELLING:
                    return coded
                good = coded
            elif good is not None:
                return good
            best = min(best, found.divergence)
            strayed.append((rate, found.divergence))
            factor = (divergence / max(found.divergence, divergence / MAX_COARSER)) ** (1 / _slope(strayed))
            following = min(max(rate * max(factor, MIN_RATE_RATIO), MIN_DIVERGENCE), MAX_DIVERGENCE)
            if following == rate:  # as fine or as coarse as it gets
                if good is not None:
                    return good
                break
            rate = following
        expected = f"at least {best:.2g} for this network and these inputs"
        hint = (
            "" if self._float_network.repeats() else "It answers otherwise each time it runs: is its dropout never off?"
        )
        raise OptionError("--divergence", expected, f"{divergence:g}", hint)

    def look(self, coded: Coded) -> Look:
        """Return what a file still answers on the inputs held out, or on those learned from where none are.

        Raises:
            RangeError: no number, as answers on these inputs are beyond float32.
        """
        self.progress("looking at what it answers", 0, 0)
        found = self._float_network.look(to_tensors(self.write(coded)))
        if not math.isfinite(found.divergence):
            raise RangeError("answers")
        return found

    @cached_property
    def _float_network(self) -> FloatNetwork:
        held = self.held_out
        return FloatNetwork(self.module, held.inputs, held_out=not held.learned_from, made_up=held.made_up)

    def size(self, coded: Coded) -> int:
        """Return the bytes of the file, once it says what was seen of it."""
        look = replace(USUAL_LOOK, error=USUAL_LOOK.divergence) if self._float_network.doubtful else USUAL_LOOK
        return len(codec.encode_model(self.write(replace(coded, look=look)), self.layout)) + SPARE

    def to_size(self, target: int) -> Coded:
        """Find a rate on quick drafts, and change it until a whole run takes 99 to 100 % of the target.

        Raises:
            OptionError: a size that the coarsest rate does not reach.
        """
        points: list[Point] = []
        divergence = self.learning.divergence
        while len(points) < DRAFTS:
            draft = self.rounded_at(divergence, f"draft {len(points) + 1} of up to {DRAFTS}", count=DRAFT_INPUTS)
            points.append((divergence, self.size(draft)))
            stuck = len(points) > 1 and points[-1][1] == points[-2][1]
            if points[-1][1] > target and (stuck or divergence == MAX_DIVERGENCE):
                raise _unreachable(points[-1][1], target)
            divergence = _next_divergence(points, target)
            if stuck or abs(math.log(points[-1][1] / target)) < NEAR or divergence == points[-1][0]:
                break
        best: tuple[int, Coded] | None = None
        runs: list[Point] = []
        last: list[str] = []  # layers at a rate of their own, once a file is near the target
        rate, power = divergence, _power(points)
        for number in range(1, SIZE_RUNS + 1):
            finer = dict.fromkeys(last, math.sqrt(divergence / rate))
            coded = self.rounded_at(divergence, f"round {number} of up to {SIZE_RUNS}", finer=finer)
            size = self.size(coded)
            runs.append((rate, size))
            if size <= target and (best is None or size > best[0]):
                best = (size, coded)
            if best is not None and best[0] >= BELOW * target:
                break
            if not last and abs(math.log(size / target)) < SCATTER:
                last, runs, power = _last_layers(coded), runs[-1:], power / LAST
            following = _next_divergence(runs, AIMED_AT * target, power)
            if following == rate:  # as coarse or as fine as it gets
                break
            rate = following
            divergence = divergence if last else rate
        if best is None:
            raise _unreachable(min(size for _, size in runs), target)
        return replace(best[1], look=self.look(best[1]))

    def to_drop(self, drop: float) -> Coded:
        """Find a rate on quick drafts, and change it until rounding loses no more than `drop` points, nor much less.

        Raises:
            OptionError: nothing held out to measure on, or fewer points than the finest rates lose.
        """
        if not len(self.held_out.inputs):
            raise OptionError("--max-drop", "at least 4 calibration inputs", len(self.inputs))
        divergence = self._drafted(DRAFT_LOSS * drop)
        fine, coarse = 0.0, math.inf  # the coarsest rate that kept to the drop, and the finest that did not
        best: Coded | None = None
        for run in range(DRAFTS):
            coded = self.rounded_at(divergence, f"round {run + 1} of up to {DRAFTS}")
            lost = self.lost(coded)
            if lost <= drop:
                fine, best = divergence, coded
            else:
                coarse = divergence
            done = ENOUGH * drop <= lost <= drop or (best is not None and run >= FULL_RUNS - 1)
            if done or coarse / CLOSE < fine or not MIN_DIVERGENCE < divergence < MAX_DIVERGENCE:
                break
            if fine > 0 and coarse < math.inf:
                divergence = math.sqrt(fine * coarse)
            else:
                divergence = min(_scaled(divergence, AIM * drop, lost), coarse / 2)
        if best is None:
            raise OptionError("--max-drop", "more points for this network", drop, "Try a larger one")
        return replace(best, look=self.look(best))

    def lost(self, coded: Coded, count: int | None = None) -> float:
        """Return points of accuracy that a file loses on the inputs held apart, or the first `count` of them."""
        again = copy.deepcopy(self.module)
        again.load_state_dict(to_tensors(self.write(coded)))
        return accuracy_lost(self._float_scores[:count], again, self.held_out.first(count))

    @cached_property
    def _float_scores(self) -> Tensor:
        return predict(self.module, self.held_out.inputs)

    def _drafted(self, drop: float) -> float:
        divergence = self.learning.divergence
        for number in range(1, DRAFTS + 1):
            draft = self.rounded_at(divergence, f"draft {number} of up to {DRAFTS}", count=DRAFT_INPUTS)
            lost = self.lost(draft, DRAFT_HELD)
            if NEAR_DROP[0] * drop <= lost <= NEAR_DROP[1] * drop or not MIN_DIVERGENCE < divergence < MAX_DIVERGENCE:
                break
            divergence = _scaled(divergence, drop, lost)
        return divergence


@torch.inference_mode()
def predict(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's outputs in eval mode and in float32, on the CPU; it is left as it is, and where it is."""
    module, device = copy.deepcopy(module).float().eval(), device_of(module)
    answers = [module(batch.to(device)) for batch in split_batches(inputs, device)]
    if not all(isinstance(answer, Tensor) for answer in answers):
        raise OptionError("--max-drop", "a network whose output is class scores", type(answers[0]).__name__)
    return torch.cat(answers).cpu()


def accuracy_lost(before: Tensor, stored: nn.Module, held_out: HeldOut) -> float:
    """Return points of accuracy that a stored network lost on inputs whose float scores are `before`.

    Raises:
        OptionError: outputs that are no class scores, or labels that are not theirs.
    """
    if before.dim() != 2:
        raise OptionError("--max-drop", "a network whose output is class scores", tuple(before.shape))
    was, now = before.argmax(1), predict(stored, held_out.inputs).argmax(1)
    if held_out.labels is not None:
        labels = held_out.labels
        right, chance = (was == labels).float().mean(), 1 / before.shape[1]
        if float(right) <= chance and before.shape[1] > 1:  # of other classes, or counted otherwise
            expected = "labels by which the float network is right more often than by chance"
            raise OptionError("--max-drop", expected, f"{100 * right:.1f} % right, of {before.shape[1]} classes")
        return 100 * float(right - (now == labels).float().mean())
    trust = before.softmax(1)
    return 100 * float((trust.gather(1, was[:, None]) - trust.gather(1, now[:, None])).mean())


def _last_layers(coded: Coded) -> list[str]:
    """Return the last layers that have a quarter of all integers together."""
    sizes = {
        name: entry.integers_RCK.size for name, entry in coded.entries.items() if isinstance(entry, codec.Expanded)
    }
    names, count = [], 0
    for name in reversed(sizes):
        names.append(name)
        count += sizes[name]
        if count >= LAST * sum(sizes.values()):
            break
    return names


def _unreachable(least: int, target: int) -> OptionError:
    return OptionError("--target-size", f"at least {least:,} bytes for this network", f"{target:,}")


def _scaled(divergence: float, wanted: float, lost: float) -> float:
    return min(max(divergence * wanted / max(lost, MIN_LOST * wanted), MIN_DIVERGENCE), MAX_DIVERGENCE)


def _next_divergence(points: list[Point], target: float, usual: float = USUAL_POWER) -> float:
    """Return the divergence at which the file should have `target` bytes.

    Logarithms are interpolated between the nearest points on both sides of the target, or extrapolated from the last
    two; beyond all that were tried in any case, as sizes of small files go up and down. Of several points near the
    target the mean is taken.
    """
    above = min((p for p in points if p[1] > target), key=lambda p: p[1], default=None)
    below = max((p for p in points if p[1] <= target), key=lambda p: p[1], default=None)
    pair = [above, below] if above and below else points[-2:]
    divergence, size = min(pair, key=lambda p: abs(math.log(p[1] / target)))
    near = [(rate, found) for rate, found in points if abs(math.log(found / target)) < SCATTER]
    if len(near) >= SEVERAL:
        following = math.exp(sum(math.log(rate) + usual * math.log(found / target) for rate, found in near) / len(near))
    else:
        following = divergence * (size / target) ** _power(pair, usual)
    tried = [divergence for divergence, _ in points]
    if below is None and following <= max(tried):
        following = BEYOND * max(tried)
    if above is None and following >= min(tried):
        following = min(tried) / BEYOND
    while any(math.isclose(following, rate) for rate in tried) and MIN_DIVERGENCE < following < MAX_DIVERGENCE:
        following = following * NUDGE if size > target else following / NUDGE
    return min(max(following, MIN_DIVERGENCE), MAX_DIVERGENCE)


def _slope(strayed: list[tuple[float, float]]) -> float:
    """Return which power of the rate the divergence goes with, as the last two tell: 1 by the estimate, or less.

    Where errors are too large for the estimate, as they are amplified or make up for one another, a finer rate helps
    less than it says.
    """
    if len(strayed) < 2:
        return 1.0
    (rate0, far0), (rate1, far1) = strayed[-2:]
    return min(max(math.log(far1 / far0) / math.log(rate1 / rate0), LEAST_POWER), 1.0)


def _power(points: list[Point], usual: float = USUAL_POWER) -> float:
    """Return by which power of a change of size the divergence changes between the last two points."""
    if len(points) < 2:
        return usual
    (d0, b0), (d1, b1) = points[-2:]
    power = -math.log(d1 / d0) / math.log(b1 / b0) if b1 != b0 else 0.0
    return power if 0.2 < power < 20 else usual
