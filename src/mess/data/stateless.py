"""Random draws that are functions of where they are used: no generator has a state that could be lost.

Every draw is the hash of (seed, epoch, sample, purpose), so an epoch is the same on any number of processes and workers
and a resumed run goes on with the very crops it would have had. The hash is SplitMix64's finaliser (Steele, Lea and
Flood 2014, "Fast splittable pseudorandom number generators"), applied after each part is mixed in.
"""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ORDER, ROW, COLUMN, FLIP, AREA, ASPECT, COLOUR = range(7)  # purposes


def draw(seed: int, epoch: int, sample_N: np.ndarray, purpose: int) -> np.ndarray:
    """Return one 64-bit number a sample, uint64, evenly spread."""
    with np.errstate(over="ignore"):
        state_N = np.full(len(sample_N), seed % 2**64, dtype=np.uint64)
        for part in (np.uint64(epoch), sample_N.astype(np.uint64), np.uint64(purpose)):
            state_N = _mix(state_N + GOLDEN * (part + np.uint64(1)))
    return state_N


def uniform(seed: int, epoch: int, sample_N: np.ndarray, purpose: int) -> np.ndarray:
    """Return one float64 in [0, 1) a sample, from the upper 53 bits of `draw`."""
    return (draw(seed, epoch, sample_N, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(seed: int, epoch: int, sample_N: np.ndarray, purpose: int, below: int) -> np.ndarray:
    """Return one int64 in 0 … below−1 a sample (the bias of the modulo, under below/2^64, is of no account)."""
    return (draw(seed, epoch, sample_N, purpose) % np.uint64(below)).astype(np.int64)


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of an epoch over global sample numbers: sorted by their draws, ties by number."""
    return np.argsort(draw(seed, epoch, np.arange(count), ORDER), kind="stable")


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
