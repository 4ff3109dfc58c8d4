"""The model: integer frequencies of the symbols 0 … A−1, and how a few bytes say them (FORMAT.md, clause 7).

Three kinds. *Even*: all the same. *Bell*: two parameters, for the bell- and tent-shaped histograms of rounded numbers;
weights fall off on both sides of a centre by a ratio that itself may fall. *Listed*: a small float for each symbol.
Whichever costs least, its own bytes included, is taken. All arithmetic is on integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mess.codec.ans import TOTAL
from mess.codec.bits import Reader, pack, packed_size, unpack, varint
from mess.errors import FormatError

MAX_ALPHABET = 1 << 16
EVEN, BELL, LISTED = range(3)
RATIO = 16  # bits behind the point of a bell's ratios
MAX_CODE_BITS = 9  # bits of a code of a list
PEAK = 1 << 32  # a bell's weight at its centre


@dataclass(frozen=True)
class Table:
    """Frequencies, and the bytes that say them."""

    frequency_A: np.ndarray
    content: bytes

    def cost(self, counts_A: np.ndarray) -> float:
        """Return the bits that symbols with these counts take under this table."""
        if len(counts_A) > len(self.frequency_A):
            return float("inf")
        frequency_A = self.frequency_A[: len(counts_A)]
        return float(-(counts_A * np.log2(frequency_A / TOTAL)).sum())


def best_table(counts_A: np.ndarray) -> Table:
    """Return the table whose bytes and coded symbols together are fewest."""
    tables = [_even(len(counts_A)), _fitted_bell(counts_A)]
    tables += [_listed(counts_A, mantissa) for mantissa in (1, 2, 3, 5, 8)]
    return min(tables, key=lambda t: t.cost(counts_A) + 8 * len(t.content))


def read_table(reader: Reader) -> Table:
    """Read what `Table.content` says.

    Raises:
        FormatError: an alphabet that is too large, an unknown kind, or parameters that no writer uses.
    """
    start = reader.at
    size = reader.varint(MAX_ALPHABET + 1)
    if not size:
        raise FormatError(reader.where, "an alphabet of at least one symbol", 0)
    kind = reader.byte()
    if kind == EVEN:
        frequency_A = even(size)
    elif kind == BELL:
        centre = reader.varint(size)
        ratio, fall = int.from_bytes(reader.take(2), "little"), int.from_bytes(reader.take(2), "little")
        frequency_A = frequencies(bell(size, centre, ratio, fall))
    elif kind == LISTED:
        mantissa, width = divmod(reader.byte(), 16)
        if not (1 <= mantissa <= 8 and 1 <= width <= MAX_CODE_BITS):
            raise FormatError(reader.where, "1 to 8 bits of mantissa, codes of 1 to 9 bits", (mantissa, width))
        codes = unpack(reader.take(packed_size(size, width)), size, width)
        frequency_A = frequencies(_from_codes(codes, mantissa, reader.where))
    else:
        raise FormatError(reader.where, "a table of kind 0, 1 or 2", kind)
    return Table(frequency_A, reader.content[start : reader.at])


def frequencies(weights_A: np.ndarray) -> np.ndarray:
    """Return integers ≥ 1 that sum to 2^24, in proportion to weights 0 ≤ w < 2^33 (FORMAT.md 7.5).

    f = 1 + ⌊w·(2^24 − A)/W⌋; what is left goes to the first of the largest weights.
    """
    total = int(weights_A.sum())
    if not total:
        return even(len(weights_A))
    frequency_A = weights_A * (TOTAL - len(weights_A))  # below 2^33 · 2^24: no overflow
    frequency_A //= total
    frequency_A += 1
    frequency_A[weights_A.argmax()] += TOTAL - int(frequency_A.sum())
    return frequency_A


def even(size: int) -> np.ndarray:
    """Return the frequencies of weights that are all the same: 1 + ⌊(2^24 − A)/A⌋, and the first has what is left."""
    frequency_A = np.full(size, TOTAL // size)
    frequency_A[0] += TOTAL % size
    return frequency_A


def bell(size: int, centre: int, ratio: int, fall: int) -> np.ndarray:
    """Return weights that start at 2^32 at the centre and are multiplied by a falling ratio at each step outwards.

    w_0 = 2^32, r_0 = ratio; w_{i+1} = w_i·r_i ≫ 16, r_{i+1} = r_i·(2^16 − fall) ≫ 16. fall = 0 is a two-sided geometric
    distribution, larger ones come near a Gaussian.
    """
    reach = max(centre, size - 1 - centre) + 1
    side, weight, keep = [PEAK], PEAK, (1 << RATIO) - fall
    while weight and len(side) < reach:
        weight = weight * ratio >> RATIO
        ratio = ratio * keep >> RATIO
        side.append(weight)
    side += [0] * (reach - len(side))
    return np.array(side[centre:0:-1] + side[: size - centre])


def _even(size: int) -> Table:
    return Table(even(size), varint(size) + bytes([EVEN]))


def _fitted_bell(counts_A: np.ndarray) -> Table:
    """Search the two parameters on a grid from a geometric to a normal distribution; the centre is the mean."""
    size, n = len(counts_A), max(1, int(counts_A.sum()))
    mean = float((counts_A * np.arange(size)).sum()) / n
    centre = min(size - 1, max(0, round(mean)))
    spread = max(0.05, float((counts_A * np.abs(np.arange(size) - centre)).sum()) / n)
    tables = []
    geometric = spread / (1 + spread)
    for fall_share in (0.0, 0.25, 0.5, 0.75, 1.0):
        for stretch in (0.8, 0.9, 1.0, 1.1, 1.25):
            # a Gaussian of mean deviation m has variance v = πm²/2; its ratios start at e^(−1/2v) and fall by e^(−1/v)
            per_step = 1 / (np.pi / 2 * (spread * stretch) ** 2)
            fall = fall_share * (1 - np.exp(-per_step))
            ratio = (1 - fall_share) * geometric ** (1 / stretch) + fall_share * np.exp(-per_step / 2)
            r, f = (min((1 << RATIO) - 1, max(0, round(x * (1 << RATIO)))) for x in (ratio, fall))
            content = varint(size) + bytes([BELL]) + varint(centre) + r.to_bytes(2, "little") + f.to_bytes(2, "little")
            tables.append(Table(frequencies(bell(size, centre, r, f)), content))
    return min(tables, key=lambda table: table.cost(counts_A))


def _listed(counts_A: np.ndarray, mantissa: int) -> Table:
    """Write each count as a float of `mantissa` bits, scaled so that the smallest count keeps a code of its own."""
    counts_A = counts_A.astype(np.int64)
    excess = max(0, int(counts_A.max(initial=0)).bit_length() - (32 - mantissa))
    codes = _to_codes(np.where(counts_A > 0, np.maximum(counts_A >> excess, 1), 0), mantissa)
    width = max(1, int(codes.max(initial=0)).bit_length())
    if width > MAX_CODE_BITS:
        return _even(len(counts_A))
    content = varint(len(counts_A)) + bytes([LISTED, mantissa * 16 + width]) + pack(codes, width)
    return Table(frequencies(_from_codes(codes, mantissa, "table")), content)


def _to_codes(counts_A: np.ndarray, mantissa: int) -> np.ndarray:
    """0 stays 0; else 1 + exponent·2^m + mantissa of the nearest value (2^m + mantissa)·2^exponent / 2^m ≥ 1."""
    one = 1 << mantissa
    codes = np.zeros(len(counts_A), dtype=np.int64)
    some = counts_A > 0
    scaled = counts_A[some].astype(np.float64)
    exponent = np.floor(np.log2(scaled)).astype(np.int64)
    fraction = np.rint(scaled / 2.0**exponent * one).astype(np.int64)
    over = fraction == 2 * one
    exponent, fraction = exponent + over, np.where(over, one, fraction)
    codes[some] = 1 + exponent * one + (fraction - one)
    return codes


def _from_codes(codes_A: np.ndarray, mantissa: int, where: str) -> np.ndarray:
    exponent = (int(codes_A.max()) - 1) >> mantissa
    if exponent + mantissa > 32:
        raise FormatError(where, "weights below 2^33", f"an exponent of {exponent}")
    return _listed_weights(mantissa)[codes_A]


@cache
def _listed_weights(mantissa: int) -> np.ndarray:
    """Return the weight of each code of up to 9 bits (FORMAT.md 7.4); 0 where it would be 2^33 or more."""
    one = 1 << mantissa
    weights = [0] + [(one + code % one) << code // one for code in range((1 << MAX_CODE_BITS) - 1)]
    return np.array([weight if weight < 1 << 33 else 0 for weight in weights])
