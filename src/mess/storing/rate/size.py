"""Finding the rate at which a file has the size that is asked for: on quick drafts first, then by whole runs."""

from __future__ import annotations

import math
from dataclasses import replace

from mess import codec
from mess.errors import OptionError
from mess.storing.entries import Coded
from mess.storing.rate.search import DRAFT_INPUTS, DRAFTS, MAX_DIVERGENCE, MIN_DIVERGENCE, Search

BELOW = 0.991  # of the target size: a file lands between this and the target, or 0.99 once it says what was seen of it
AIMED_AT = 0.996  # of the target size
NUDGE = 1.003  # times a rate that was tried, for another: rounding is a little different, and sizes by about a per cent
NEAR = 0.03  # how near, in the logarithm of bytes, drafts come to the target; whole runs differ from them by as much
SIZE_RUNS = 20  # at most: few are needed but for networks of some thousand weights, whose sizes scatter
SCATTER = 0.06  # in the logarithm: points as near to the target as this differ by chance as well
SEVERAL = 3  # of them tell together where the target is
# A little change of the rate changes all that follows, and the size by some per cent; in the last layers less follows.
LAST = 0.25  # of a network's numbers
USUAL_POWER = 2.5  # by which the divergence changes with the size, until two points say
BEYOND = 1.1  # times a rate, for the next one to be a different one
Point = tuple[float, int]  # divergence in nats, bytes of the file


def to_size(search: Search, target: int) -> Coded:
    """Find a rate on quick drafts, and change it until a whole run takes 99 to 100 % of the target.

    Raises:
        OptionError: a size that the coarsest rate does not reach.
    """
    points: list[Point] = []
    divergence = search.learning.divergence
    while len(points) < DRAFTS:
        draft = search.rounded_at(divergence, f"draft {len(points) + 1} of up to {DRAFTS}", count=DRAFT_INPUTS)
        points.append((divergence, search.size(draft)))
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
        coded = search.rounded_at(divergence, f"round {number} of up to {SIZE_RUNS}", finer=finer)
        size = search.size(coded)
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
    return replace(best[1], look=search.look(best[1]))


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


def _power(points: list[Point], usual: float = USUAL_POWER) -> float:
    """Return by which power of a change of size the divergence changes between the last two points."""
    if len(points) < 2:
        return usual
    (d0, b0), (d1, b1) = points[-2:]
    power = -math.log(d1 / d0) / math.log(b1 / b0) if b1 != b0 else 0.0
    return power if 0.2 < power < 20 else usual
