"""Finding the rate at which a stored network's answers stray as far as they may: what the estimate says is tried."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from mess.errors import OptionError, RangeError
from mess.storing.entries import Coded
from mess.storing.rate.search import MAX_DIVERGENCE, MIN_DIVERGENCE, Search

log = logging.getLogger("mess.storing")
LOOKS = 4  # at most, until a file strays no further than it may
LOOSE = 1.25  # times the divergence asked for: what the inputs looked at may be wrong by
NEARLY = 0.6  # of the divergence asked for: a file that strays less is 10% larger than it need be
TELLING = 128  # inputs: what fewer say of a file that was learned from them makes none coarser
MAX_COARSER = 2.0  # times as coarse: what is looked at may be what was learned from, and unseen inputs stray further
MIN_RATE_RATIO = 1 / 30  # from one rate to the next
LEAST_POWER = 0.3  # of the rate, that what a file strays by goes with


def to_divergence(search: Search, divergence: float, *, met: bool) -> Coded:
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
            coded = search.rounded_at(rate, f"round {number} of up to {LOOKS}")
            found = search.look(coded)
        except RangeError:
            if good is None:
                raise
            return good
        log.info("round %d, rounded for a divergence of %.3g: %s", number, rate, found)
        if found.divergence <= LOOSE * divergence:
            coded = replace(coded, look=found)
            near = found.divergence >= NEARLY * divergence
            if near or not met or number > 1 or len(search.inputs) < TELLING:
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
    hint = "" if search.float_network.repeats() else "It answers otherwise each time it runs: is its dropout never off?"
    raise OptionError("--divergence", expected, f"{divergence:g}", hint)


def _slope(strayed: list[tuple[float, float]]) -> float:
    """Return which power of the rate the divergence goes with, as the last two tell: 1 by the estimate, or less.

    Where errors are too large for the estimate, as they are amplified or make up for one another, a finer rate helps
    less than it says.
    """
    if len(strayed) < 2:
        return 1.0
    (rate0, far0), (rate1, far1) = strayed[-2:]
    return min(max(math.log(far1 / far0) / math.log(rate1 / rate0), LEAST_POWER), 1.0)
