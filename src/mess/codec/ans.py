"""The coder: symbols to 32-bit words and back, given integer frequencies. It knows nothing of where these come from.

Range asymmetric numeral systems (Duda 2013, arXiv 1311.2540) as `constriction` implements them: a state of 64 bits,
words of 32, frequencies that sum to 2^24 (FORMAT.md, clause 6). A long stream is cut into lanes, each a coder of its
own, so that NumPy can decode all of them in step. `constriction` does the work where it is installed; without it NumPy
decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mess.errors import FormatError, MessError

try:
    import constriction
except ImportError:  # pragma: no cover - tried in a process of its own
    constriction = None

PRECISION = 24
TOTAL = 1 << PRECISION
LANE = 16384  # symbols a lane at least, once there are two of them
LANE_BYTES = 4096  # and bytes, so that the seven or so that a lane costs are less than 0.2 %
BLOCK = 1 << 16  # symbols that are decoded at once, at most
STEPS = 1 << 10  # of all lanes side by side that are decoded at once


def most_lanes(count: int) -> int:
    """Return how many lanes a stream of so many symbols may have (FORMAT.md 6.4)."""
    return max(1, count // LANE)


def lane_bounds(count: int, lanes: int) -> list[int]:
    """Return the first symbol of each lane, and the end (FORMAT.md 6.4)."""
    return [count * lane // lanes for lane in range(lanes + 1)]


def encode(symbols_N: np.ndarray, frequency_A: np.ndarray) -> list[np.ndarray]:
    """Return the words (uint32) of each lane; as many lanes as the symbols' bytes are worth.

    Args:
        symbols_N: 0 … A−1.
        frequency_A: integers ≥ 1 that sum to 2^24.
    """
    if len(frequency_A) == 1:  # nothing to tell apart
        return [np.zeros(0, dtype=np.uint32)]
    if constriction is None:
        raise MessError("constriction", "the package, which writing needs", "none", "pip install constriction")
    model_ = model(frequency_A)
    counts_A = np.bincount(symbols_N, minlength=len(frequency_A))
    size = -float((counts_A * np.log2(frequency_A / TOTAL)).sum()) / 8
    bounds = lane_bounds(len(symbols_N), max(1, min(most_lanes(len(symbols_N)), int(size) // LANE_BYTES)))
    lanes = []
    for start, end in pairwise(bounds):
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(symbols_N[start:end].astype(np.int32), model_)
        lanes.append(coder.get_compressed())
    return lanes


def decode(lanes: list[np.ndarray], count: int, frequency_A: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (place of the first, symbols) of parts that are all `count` symbols together; int32.

    Parts are small, as a file of a few bytes may say any number of symbols.

    Raises:
        FormatError: words that no encoder writes, or that are too many or too few.
    """
    for words in lanes:
        if len(words) and not words[-1]:
            raise FormatError("entropy-coded stream", "a last word that is not zero", "zero")
    bounds = lane_bounds(count, len(lanes))
    if len(frequency_A) == 1:  # nothing to tell apart: every state decodes to itself
        if any(len(words) for words in lanes):
            raise FormatError("entropy-coded stream", "no words for an alphabet of one symbol", "some")
        yield from ((start, np.zeros(end - start, dtype=np.int32)) for start, end in _blocks(0, count))
    elif constriction is None:
        yield from decode_with_numpy(lanes, bounds, frequency_A)
    else:
        model_ = model(frequency_A)
        for words, bound in zip(lanes, pairwise(bounds), strict=True):
            coder = constriction.stream.stack.AnsCoder(words)
            for start, end in _blocks(*bound):
                yield start, coder.decode(model_, end - start)
            if not coder.is_empty():
                raise FormatError("entropy-coded stream", "a coder that ends empty", "words left over")


def _blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each block of symbols."""
    for at in range(start, end, BLOCK):
        yield at, min(at + BLOCK, end)


def decode_with_numpy(
    lanes: list[np.ndarray], bounds: list[int], frequency_A: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode all lanes in step with NumPy alone, as `decode`; the same arithmetic, symbol by symbol (FORMAT.md 6.3)."""
    frequency_A = frequency_A.astype(np.uint64)
    edges_A = np.concatenate([[0], np.cumsum(frequency_A)]).astype(np.uint64)
    left_L = np.array([len(words) for words in lanes], dtype=np.int64)
    base_L = np.concatenate([[0], np.cumsum(left_L)[:-1]]).astype(np.int64)
    words = np.concatenate([*lanes, np.zeros(1, np.uint32)]).astype(np.uint64)
    state_L = np.zeros(len(lanes), dtype=np.uint64)
    for _ in range(2):
        has = left_L > 0
        left_L = left_L - has
        state_L = np.where(has, (state_L << np.uint64(32)) | words[base_L + left_L * has], state_L)
    sizes_L = np.diff(bounds)
    steps = int(sizes_L.max(initial=0))
    out_LS = np.zeros((len(lanes), min(steps, STEPS)), dtype=np.int32)
    mask, shift, low = np.uint64(TOTAL - 1), np.uint64(PRECISION), np.uint64(1 << 32)
    for step in range(steps):
        quantile_L = state_L & mask
        symbol_L = np.searchsorted(edges_A, quantile_L, side="right") - 1
        moved_L = (state_L >> shift) * frequency_A[symbol_L] + (quantile_L - edges_A[symbol_L])
        refill_L = (moved_L < low) & (left_L > 0)
        running_L = step < sizes_L
        refill_L &= running_L
        left_L = left_L - refill_L
        moved_L = np.where(refill_L, (moved_L << np.uint64(32)) | words[base_L + left_L * refill_L], moved_L)
        state_L = np.where(running_L, moved_L, state_L)
        out_LS[:, step % STEPS] = symbol_L
        if step + 1 == steps or not (step + 1) % STEPS:
            first = step // STEPS * STEPS
            for symbols_S, start, end in zip(out_LS.copy(), bounds, bounds[1:], strict=False):
                yield start + first, symbols_S[: max(0, end - start - first)]
    if left_L.any() or state_L.any():
        raise FormatError("entropy-coded stream", "a coder that ends empty", "words left over")


def model(frequency_A: np.ndarray) -> object:
    """Return constriction's model of exactly these frequencies, of which there must be two at least."""
    # weights (f − 1) in float64 are taken as they are: the model's frequencies are exactly f (tested)
    return constriction.stream.model.Categorical((frequency_A - 1).astype(np.float64), perfect=False)
