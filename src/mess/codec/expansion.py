"""Layers that are sums of references, Σ_t q_t·R_t for each unit: their integers as bytes (FORMAT.md, clause 10).

::

    steps │ exponents of the steps │ levels of the terms │ which contexts have a table │ tables │ lengths of the lanes
    │ a lane for each layer

Tables are shared by the whole network: a context says how large an integer should be, and that means the same in every
layer. Many small tables would cost more than they save. Each layer has a lane of its own, so that it can be decoded
alone; layers of one size are decoded side by side, which is what makes Python fast enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mess.codec.bits import Reader, unzigzag, varint, zigzag
from mess.codec.contexts import CONTEXTS, LEVEL_OF_ONE, LEVELS, ContextState, stages, term_level
from mess.codec.exponents import Size, read_exponents, write_exponents
from mess.codec.grouped import LaneDecoder, Tables, encode_groups
from mess.codec.numbers import NumberArray
from mess.codec.streams import PreviousTable, read_integers, read_stream, write_integers, write_stream
from mess.codec.tables import Table, best_table, read_table
from mess.errors import FormatError, WeightsError
from mess.step_exponents import NO_EXPONENTS, Exponents, are_steps_good

ONE_STEP, EXPONENTS = 1, 2  # coders: one step a layer; exponents by row, column and term beside it
MAX_INTEGER = (1 << 15) - 1
TOGETHER = 1 << 17  # integers of a stage that are decoded at once, of layers of one size


@dataclass(frozen=True)
class Integers:
    """A layer's integers, (rows, columns, terms) int32, and the steps they are multiples of."""

    values_RCT: np.ndarray
    step: float
    exponents: Exponents = NO_EXPONENTS


@dataclass(frozen=True)
class ContextCluster:
    """Contexts that share a table, from `first` up to the first of the next cluster; symbols are q − low."""

    first: int
    low: int
    table: Table
    bits: float


def write_expansions(layers: Sequence[Integers]) -> tuple[int, bytes]:
    """Return the coder and the content of the section of all layers: the first coder, unless a step has exponents.

    Raises:
        WeightsError: an integer beyond ±32,767.
    """
    groups, changes = [], []
    before: dict[int, list[int]] = {}
    for layer in layers:
        if layer.values_RCT.size and int(np.abs(layer.values_RCT).max()) > MAX_INTEGER:
            raise WeightsError("expanded layer", f"integers up to {MAX_INTEGER}", "larger ones", "a larger step")
        terms = layer.values_RCT.shape[2]
        levels = [term_level(np.abs(layer.values_RCT[:, :, t])) for t in range(terms)]
        changes += [x - base for x, base in zip(levels, before.get(terms, [LEVEL_OF_ONE] * terms), strict=True)]
        before[terms] = levels
        groups.append(list(_contexts(layer.values_RCT, levels)))
    clusters = _clusters([pair for layer in groups for pair in layer])
    steps = NumberArray(np.array([layer.step for layer in layers], dtype=np.float32), "float32")
    exponents = [layer.exponents for layer in layers]
    coder = EXPONENTS if any(own.given for own in exponents) else ONE_STEP
    out = [write_stream(steps, PreviousTable())]
    if coder == EXPONENTS:
        out.append(write_exponents(exponents))
    out.append(write_integers(np.array(changes, dtype=np.int64), PreviousTable()))
    out.append(sum(1 << cluster.first for cluster in clusters).to_bytes(CONTEXTS // 8, "little"))
    out += [varint(zigzag(cluster.low)) + cluster.table.content for cluster in clusters]
    tables = Tables([cluster.table.frequency_A for cluster in clusters])
    lanes = [encode_groups(list(_by_cluster(layer, clusters)), tables) for layer in groups]
    return coder, b"".join([*out, *(varint(len(lane)) for lane in lanes), *lanes])


def read_expansions(
    reader: Reader, coder: int, sizes: Sequence[Size], wanted: Iterable[int] | None = None
) -> dict[int, Integers]:
    """Undo `write_expansions`; only the layers in the places `wanted` are decoded, all if it is None.

    Raises:
        FormatError: anything a writer would not write.
    """
    head = _read_head(reader, coder, sizes)
    lanes = [reader.take(length) for length in head.lengths]
    tables = Tables([cluster.table.frequency_A for cluster in head.clusters])
    found: dict[int, Integers] = {}
    for places in _side_by_side(sizes, range(len(sizes)) if wanted is None else wanted):
        levels_LK = np.array([head.levels[place] for place in places])
        decoders = [LaneDecoder(lanes[place], tables) for place in places]
        values_LRCT = _decode(decoders, head.clusters, sizes[places[0]], levels_LK)
        for decoder in decoders:
            decoder.finish()
        for place, values_RCT in zip(places, values_LRCT, strict=True):
            found[place] = Integers(values_RCT, head.steps[place], head.exponents[place])
    return found


def expansion_shares(reader: Reader, coder: int, sizes: Sequence[Size]) -> list[int]:
    """Return bytes of the section by layer: its lane's, and of what all share as much as its share of all lanes."""
    total = reader.left
    lengths = np.array(_read_head(reader, coder, sizes).lengths, dtype=np.int64)
    reader.take(int(lengths.sum()))
    shared = total - reader.left - int(lengths.sum())
    ends = np.cumsum(lengths + 1)  # + 1 so that there is something to share by, also between empty lanes
    return (lengths + np.diff(ends * shared // ends[-1:], prepend=0)).tolist()


def tables_of(reader: Reader, coder: int, sizes: Sequence[Size]) -> list[Table]:
    """Return the tables of the section that all layers share."""
    return [cluster.table for cluster in _read_head(reader, coder, sizes).clusters]


@dataclass(frozen=True)
class _Head:
    """All of the section that is not lanes."""

    steps: list[float]
    exponents: list[Exponents]
    levels: list[list[int]]
    clusters: list[ContextCluster]
    lengths: list[int]


def _read_head(reader: Reader, coder: int, sizes: Sequence[Size]) -> _Head:
    numbers = read_stream(reader, len(sizes), PreviousTable())
    if numbers is None or numbers.dtype != "float32" or (numbers.values <= 0).any():
        raise FormatError(reader.where, "steps above 0, as float32", "others")
    steps = numbers.values.astype(float).tolist()
    exponents = [NO_EXPONENTS] * len(sizes)
    if coder == EXPONENTS:
        exponents = read_exponents(reader, sizes)
        if not all(are_steps_good(step, own) for step, own in zip(steps, exponents, strict=True) if own.given):
            raise FormatError(reader.where, "steps that float32 can hold", "others")
    changes = read_integers(reader, sum(terms for _, _, terms in sizes), PreviousTable(), (-LEVELS, LEVELS))
    left = iter([] if changes is None else changes.tolist())
    levels: list[list[int]] = []
    before: dict[int, list[int]] = {}
    for _, _, terms in sizes:
        before[terms] = [base + next(left) for base in before.get(terms, [LEVEL_OF_ONE] * terms)]
        if not all(0 <= level < LEVELS for level in before[terms]):
            raise FormatError(reader.where, f"levels below {LEVELS}", before[terms])
        levels.append(before[terms])
    mask = int.from_bytes(reader.take(CONTEXTS // 8), "little")
    clusters = [_read_cluster(reader, first) for first in range(CONTEXTS) if mask >> first & 1]
    if not clusters and any(rows * columns * terms for rows, columns, terms in sizes):
        raise FormatError(reader.where, "at least one table", "none")
    return _Head(steps, exponents, levels, clusters, [reader.varint(1 << 40) for _ in sizes])


def _side_by_side(sizes: Sequence[Size], places: Iterable[int]) -> Iterator[list[int]]:
    """Yield the places of layers of one size, so few at a time that a stage of all of them stays in cache."""
    alike: dict[Size, list[int]] = {}
    for place in places:
        alike.setdefault(sizes[place], []).append(place)
    for (rows, columns, _), group in alike.items():
        most = max(1, TOGETHER // max(1, rows * columns))
        yield from (group[start : start + most] for start in range(0, len(group), most))


def _decode(
    decoders: list[LaneDecoder], clusters: list[ContextCluster], size: Size, levels_LK: np.ndarray
) -> np.ndarray:
    """Return the integers of L layers of one size, (L, R, C, K)."""
    rows_, columns, terms = size
    layers = len(decoders)
    values_KLRC = np.zeros((terms, layers, rows_, columns), dtype=np.int32)
    if values_KLRC.size:
        of_context = _cluster_of(clusters, np.arange(CONTEXTS)).astype(np.uint8)
        low_LS = np.tile(np.array([cluster.low for cluster in clusters], dtype=np.int32), (layers, 1))
        place_L1 = np.arange(layers)[:, None]
        seen = ContextState(layers, rows_, columns)
        for term, rows in stages(rows_, terms):
            stage = seen.stage(term, rows, levels_LK[:, term], of_context)
            # by cluster, as they were coded
            order_LN = stage.contexts().reshape(layers, -1).argsort(axis=1, kind="stable")
            order_LN += columns * (rows.start + rows_ * place_L1)
            counts_LS = stage.counts(len(clusters))
            parts = [
                part
                for decoder, counts in zip(decoders, counts_LS.tolist(), strict=True)
                for part in decoder.decode(counts)
            ]
            found_N = np.concatenate(parts)
            found_N += np.repeat(low_LS.ravel(), counts_LS.ravel())
            values_KLRC[term].reshape(-1)[order_LN.ravel()] = found_N
            seen.add(rows, values_KLRC[term, :, rows])
    return values_KLRC.transpose(1, 2, 3, 0)


def _contexts(values_RCT: np.ndarray, levels: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (integers, contexts) of each stage, flat."""
    rows_, columns, terms = values_RCT.shape
    if not values_RCT.size:
        return
    seen = ContextState(1, rows_, columns)
    for term, rows in stages(rows_, terms):
        stage_RC = values_RCT[rows, :, term].astype(np.int64)
        yield stage_RC.ravel(), seen.stage(term, rows, np.array(levels[term : term + 1])).contexts().ravel()
        seen.add(rows, stage_RC[None])


def _by_cluster(
    pairs: list[tuple[np.ndarray, np.ndarray]], clusters: list[ContextCluster]
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (symbols, cluster) in the order in which a layer is coded."""
    for values_N, context_N in pairs:
        cluster_N = _cluster_of(clusters, context_N)
        for place in np.unique(cluster_N).tolist():
            yield values_N[cluster_N == place] - clusters[place].low, place


def _clusters(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[ContextCluster]:
    """Choose which contexts share a table: neighbours are joined as long as that saves more than it costs."""
    if not pairs:
        return []
    values_N, context_N = (np.concatenate(x) for x in zip(*pairs, strict=True))
    parts = [(int(c), values_N[context_N == c]) for c in np.unique(context_N)]
    clusters = [_fitted(first, numbers_N) for first, numbers_N in parts]
    joined = [_fitted(a[0], np.concatenate([a[1], b[1]])) for a, b in pairwise(parts)]
    while joined:
        gains = [clusters[i].bits + clusters[i + 1].bits - both.bits for i, both in enumerate(joined)]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        parts[best : best + 2] = [(parts[best][0], np.concatenate([parts[best][1], parts[best + 1][1]]))]
        clusters[best : best + 2] = [joined.pop(best)]
        for i in (best - 1, best):
            if 0 <= i < len(joined):
                joined[i] = _fitted(parts[i][0], np.concatenate([parts[i][1], parts[i + 1][1]]))
    return clusters


def _fitted(first: int, values_N: np.ndarray) -> ContextCluster:
    low = int(values_N.min())
    counts_A = np.bincount(values_N - low)
    table = best_table(counts_A)
    return ContextCluster(first, low, table, table.cost(counts_A) + 8 * (len(table.content) + len(varint(zigzag(low)))))


def _read_cluster(reader: Reader, first: int) -> ContextCluster:
    low = unzigzag(reader.varint(1 << 17))
    table = read_table(reader)
    if low < -MAX_INTEGER or low + len(table.frequency_A) - 1 > MAX_INTEGER:
        raise FormatError(reader.where, f"integers up to ±{MAX_INTEGER}", "a table beyond")
    return ContextCluster(first, low, table, 0.0)


def _cluster_of(clusters: list[ContextCluster], context: np.ndarray) -> np.ndarray:
    """Return the cluster of each context: the last that starts at or below it, or the first."""
    firsts = np.array([cluster.first for cluster in clusters], dtype=np.int64)
    return np.maximum(np.searchsorted(firsts, context, side="right") - 1, 0)
