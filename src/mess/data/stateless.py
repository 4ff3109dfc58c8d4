"""Random draws that are functions of where they are used: no generator has a state that could be lost.

Every draw is the hash of (seed, epoch, sample, purpose), so an epoch is the same on any number of processes and workers
and a resumed run goes on with the very crops it would have had. The hash is SplitMix64's finaliser (Steele, Lea and
Flood 2014, "Fast splittable pseudorandom number generators"), applied after each part is mixed in.
"""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ORDER, ROW, COLUMN, FLIP, AREA, ASPECT, COLOUR = range(7)  # purposes

Whole = int | np.ndarray


def draw(seed: int, epoch: Whole, sample: Whole, purpose: Whole) -> np.ndarray:
    """Return 64-bit numbers, uint64, evenly spread: one for each sample, or as the three broadcast together."""
    with np.errstate(over="ignore"):
        state = np.asarray(seed % 2**64, dtype=np.uint64)
        for part in (epoch, sample, purpose):
            state = _mix(state + GOLDEN * (np.asarray(part).astype(np.uint64) + np.uint64(1)))
    return state


def uniform(seed: int, epoch: Whole, sample: Whole, purpose: Whole) -> np.ndarray:
    """Return float64 in [0, 1), from the upper 53 bits of `draw`."""
    return (draw(seed, epoch, sample, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(seed: int, epoch: Whole, sample: Whole, purpose: Whole, below: int) -> np.ndarray:
    """Return int64 in 0 … below−1 (the bias of the modulo, under below/2^64, is of no account)."""
    return (draw(seed, epoch, sample, purpose) % np.uint64(below)).astype(np.int64)


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of an epoch over global sample numbers: sorted by their draws, ties by number."""
    return np.argsort(draw(seed, epoch, np.arange(count), ORDER), kind="stable")


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
