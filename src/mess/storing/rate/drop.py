"""Finding the rate at which accuracy falls no further than it may: on quick drafts first, then by whole runs."""

from __future__ import annotations

import math
from dataclasses import replace

from mess.errors import OptionError
from mess.storing.entries import Coded
from mess.storing.rate.search import DRAFT_INPUTS, DRAFTS, MAX_DIVERGENCE, MIN_DIVERGENCE, Search

DRAFT_HELD = 1024  # inputs that a draft's loss is measured on
FULL_RUNS = 4  # at most, once a rate is found
# Loss of accuracy is about proportional to the divergence; ResNets and a WideResNet lost two thirds of what drafts did.
DRAFT_LOSS = 1.2  # of the drop allowed is what a draft should lose, for rounding with all inputs to lose `AIM` of it
MIN_LOST = 1 / 16  # of the drop that is looked for: less than that is noise
NEAR_DROP = (0.75, 1.25)  # of the drop looked for: near enough for a draft
ENOUGH = 0.6  # of the drop allowed: a file that loses as much need not lose more
AIM = 0.8  # of the drop allowed
CLOSE = 1.25  # rates that differ by less than this factor lose the same


def to_drop(search: Search, drop: float) -> Coded:
    """Find a rate on quick drafts, and change it until rounding loses no more than `drop` points, nor much less.

    Raises:
        OptionError: nothing held out to measure on, or fewer points than the finest rates lose.
    """
    if not len(search.held_out.inputs):
        raise OptionError("--max-drop", "at least 4 calibration inputs", len(search.inputs))
    divergence = _drafted(search, DRAFT_LOSS * drop)
    fine, coarse = 0.0, math.inf  # the coarsest rate that kept to the drop, and the finest that did not
    best: Coded | None = None
    for run in range(DRAFTS):
        coded = search.rounded_at(divergence, f"round {run + 1} of up to {DRAFTS}")
        lost = search.lost(coded)
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
    return replace(best, look=search.look(best))


def _drafted(search: Search, drop: float) -> float:
    divergence = search.learning.divergence
    for number in range(1, DRAFTS + 1):
        draft = search.rounded_at(divergence, f"draft {number} of up to {DRAFTS}", count=DRAFT_INPUTS)
        lost = search.lost(draft, DRAFT_HELD)
        if NEAR_DROP[0] * drop <= lost <= NEAR_DROP[1] * drop or not MIN_DIVERGENCE < divergence < MAX_DIVERGENCE:
            break
        divergence = _scaled(divergence, drop, lost)
    return divergence


def _scaled(divergence: float, wanted: float, lost: float) -> float:
    return min(max(divergence * wanted / max(lost, MIN_LOST * wanted), MIN_DIVERGENCE), MAX_DIVERGENCE)
