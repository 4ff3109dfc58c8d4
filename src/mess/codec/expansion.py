"""Layers that are sums of references, Σ_t q_t·R_t for each unit: their integers as bytes (FORMAT.md, clause 10).

::

    heads (step, level of each term) │ which contexts have a table │ tables │ one ANS stream over all layers

Tables are shared by the whole network: a context says how large an integer should be, and that means the same in every
layer. Many small tables would cost more than they save.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mess.codec.bits import Reader, unzigzag, varint, zigzag
from mess.codec.contexts import CONTEXTS, LEVELS, Seen, stages, term_level
from mess.codec.grouped import GroupDecoder, encode_groups
from mess.codec.tables import Table, best_table, read_table
from mess.errors import FormatError, WeightsError

LARGEST_INTEGER = (1 << 15) - 1
Size = tuple[int, int, int]  # rows, columns, terms


@dataclass(frozen=True)
class Integers:
    """A layer's integers, (rows, columns, terms) int32, and the step they are multiples of."""

    values_RCT: np.ndarray
    step: float


@dataclass(frozen=True)
class _Span:
    """Contexts that share a table, from `first` up to the next span's first; symbols are q − low."""

    first: int
    low: int
    table: Table
    bits: float


def write_expansions(layers: Sequence[Integers]) -> bytes:
    """Return the section of all layers.

    Raises:
        WeightsError: an integer beyond ±32,767.
    """
    heads, groups = [], []
    for layer in layers:
        if layer.values_RCT.size and int(np.abs(layer.values_RCT).max()) > LARGEST_INTEGER:
            raise WeightsError("expanded layer", f"integers up to {LARGEST_INTEGER}", "larger ones", "a larger step")
        levels = [term_level(np.abs(layer.values_RCT[:, :, t])) for t in range(layer.values_RCT.shape[2])]
        heads.append(np.float32(layer.step).astype("<f4").tobytes() + bytes(levels))
        groups.append(list(_contexts(layer.values_RCT, levels)))
    spans = _spans([pair for layer in groups for pair in layer])
    mask = sum(1 << span.first for span in spans)
    out = [*heads, mask.to_bytes(CONTEXTS // 8, "little")]
    out += [varint(zigzag(span.low)) + span.table.content for span in spans]
    coded = [
        (values_N[span_N == place] - span.low, span.table.frequency_A)
        for layer in groups
        for values_N, context_N in layer
        for span_N in [_span_of(spans, context_N)]
        for place, span in enumerate(spans)
        if (span_N == place).any()
    ]
    words = encode_groups(coded)
    return b"".join([*out, varint(len(words)), words.astype("<u4").tobytes()])


def read_expansions(reader: Reader, sizes: Sequence[Size]) -> list[Integers]:
    """Undo `write_expansions`.

    Raises:
        FormatError: anything a writer would not write.
    """
    return [layer for layer, _ in _read(reader, sizes, counted=False)]


def expansion_shares(reader: Reader, sizes: Sequence[Size]) -> list[int]:
    """Return bytes of the section by layer: all of it, shared out by how many bits each layer's integers take."""
    total = reader.left
    bits = [1.0 + layer_bits for _, layer_bits in _read(reader, sizes, counted=True)]
    edges = np.rint(np.cumsum([0.0, *bits]) / max(sum(bits), 1.0) * total).astype(int)
    return np.diff(edges).tolist()


def _read(reader: Reader, sizes: Sequence[Size], *, counted: bool) -> list[tuple[Integers, float]]:
    """Return each layer's integers, and, where they are counted, the bits they take."""
    heads = []
    for _, _, terms in sizes:
        step = float(np.frombuffer(reader.take(4), "<f4")[0])
        if not np.isfinite(step) or step <= 0:
            raise FormatError(reader.where, "a finite step above 0", step)
        levels = list(reader.take(terms))
        if max(levels, default=0) >= LEVELS:
            raise FormatError(reader.where, f"levels below {LEVELS}", max(levels))
        heads.append((step, levels))
    mask = int.from_bytes(reader.take(CONTEXTS // 8), "little")
    spans = [_read_span(reader, first) for first in range(CONTEXTS) if mask >> first & 1]
    if not spans and any(rows * columns * terms for rows, columns, terms in sizes):
        raise FormatError(reader.where, "at least one table", "none")
    words = np.frombuffer(reader.take(4 * reader.varint(1 << 40)), "<u4")
    decoder = GroupDecoder(words, [span.table.frequency_A for span in spans])
    layers = []
    for size, (step, levels) in zip(sizes, heads, strict=True):
        counts_SA = [np.zeros(len(span.table.frequency_A), dtype=np.int64) for span in spans] if counted else None
        values_RCT = _decode(decoder, spans, size, levels, counts_SA)
        bits = sum(span.table.cost(counts_A) for span, counts_A in zip(spans, counts_SA or (), strict=counted))
        layers.append((Integers(values_RCT, step), bits))
    decoder.finish()
    return layers


def _decode(
    decoder: GroupDecoder, spans: list[_Span], size: Size, levels: list[int], counts_SA: list[np.ndarray] | None
) -> np.ndarray:
    """Return a layer's integers; `counts_SA` is added how often each symbol of each span comes up."""
    values_TRC = np.zeros((size[2], size[0], size[1]), dtype=np.int32)
    if not values_TRC.size:
        return values_TRC.transpose(1, 2, 0)
    of_context = _span_of(spans, np.arange(CONTEXTS)).astype(np.uint8)
    seen = Seen(size)
    for term, rows in stages(size[0], size[2]):
        span_N = seen.contexts(term, rows, levels[term], of_context).ravel()
        order_N = np.argsort(span_N, kind="stable")  # by span, as they were coded
        found_N = np.empty(len(span_N), dtype=np.int32)
        start = 0
        for place, count in enumerate(np.bincount(span_N).tolist()):
            if count:
                symbols_N = decoder.decode(count, place)
                if counts_SA is not None:
                    counts_SA[place] += np.bincount(symbols_N, minlength=len(counts_SA[place]))
                np.add(symbols_N, spans[place].low, out=found_N[start : start + count], casting="same_kind")
                start += count
        stage_RC = values_TRC[term, rows]
        stage_RC.reshape(-1)[order_N] = found_N
        seen.add(rows, stage_RC)
    return values_TRC.transpose(1, 2, 0)


def _contexts(values_RCT: np.ndarray, levels: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (integers, contexts) of each stage, flat."""
    if not values_RCT.size:
        return []
    pairs = []
    rows_, columns, terms = values_RCT.shape
    seen = Seen((rows_, columns, terms))
    for term, rows in stages(rows_, terms):
        stage_RC = values_RCT[rows, :, term].astype(np.int64)
        pairs.append((stage_RC.ravel(), seen.contexts(term, rows, levels[term]).ravel()))
        seen.add(rows, stage_RC)
    return pairs


def _spans(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[_Span]:
    """Choose which contexts share a table: neighbours are joined as long as that saves more than it costs."""
    if not pairs:
        return []
    values_N, context_N = (np.concatenate(x) for x in zip(*pairs, strict=True))
    parts = [(int(c), values_N[context_N == c]) for c in np.unique(context_N)]
    spans = [_fitted(first, numbers_N) for first, numbers_N in parts]
    joined = [_fitted(a[0], np.concatenate([a[1], b[1]])) for a, b in pairwise(parts)]
    while joined:
        gains = [spans[i].bits + spans[i + 1].bits - both.bits for i, both in enumerate(joined)]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        parts[best : best + 2] = [(parts[best][0], np.concatenate([parts[best][1], parts[best + 1][1]]))]
        spans[best : best + 2] = [joined.pop(best)]
        for i in (best - 1, best):
            if 0 <= i < len(joined):
                joined[i] = _fitted(parts[i][0], np.concatenate([parts[i][1], parts[i + 1][1]]))
    return spans


def _fitted(first: int, values_N: np.ndarray) -> _Span:
    low = int(values_N.min())
    counts_A = np.bincount(values_N - low)
    table = best_table(counts_A)
    return _Span(first, low, table, table.cost(counts_A) + 8 * (len(table.content) + len(varint(zigzag(low)))))


def _read_span(reader: Reader, first: int) -> _Span:
    low = unzigzag(reader.varint(1 << 17))
    table = read_table(reader)
    if low < -LARGEST_INTEGER or low + len(table.frequency_A) - 1 > LARGEST_INTEGER:
        raise FormatError(reader.where, f"integers up to ±{LARGEST_INTEGER}", "a table beyond")
    return _Span(first, low, table, 0.0)


def _span_of(spans: list[_Span], context: np.ndarray) -> np.ndarray:
    """Return the span of each context: the last that starts at or below it, or the first."""
    firsts = np.array([span.first for span in spans], dtype=np.int64)
    return np.maximum(np.searchsorted(firsts, context, side="right") - 1, 0)
