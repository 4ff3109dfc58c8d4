"""Layers that are sums of references, Σ_t q_t·R_t for each unit: their integers as bytes (FORMAT.md, clause 10).

::

    steps │ exponents of the steps │ levels of terms, rows, columns │ which contexts have a table │ tables
    │ lengths of the lanes │ a lane for each layer

What is coded are indices: the integers themselves, or steps of a trellis that say them. Levels say how large an index
is likely to be, its context, and a context says which table it is coded with. Each layer has a lane of its own, so that
it can be decoded alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mess.arithmetic.levels import CONTEXTS, HIGHEST, LEVELS, LOWEST, Levels, contexts_of, fitted_levels, trellised
from mess.arithmetic.step_exponents import NO_EXPONENTS, Exponents, are_steps_good
from mess.arithmetic.trellis import indices_of, integers_of
from mess.codec.axes import (
    AXES,
    STEP_AXES,
    Size,
    read_exponents,
    read_levels,
    read_term_levels,
    write_exponents,
    write_levels,
)
from mess.codec.bits import Reader, varint
from mess.codec.clusters import (
    MAX_INTEGER,
    ContextCluster,
    chosen_clusters,
    clusters_of_contexts,
    read_clusters,
    write_clusters,
)
from mess.codec.contexts import decode_by_neighbours, side_by_side
from mess.codec.grouped import LaneDecoder, Tables, encode_groups
from mess.codec.numbers import NumberArray
from mess.codec.streams import PreviousTable, read_stream, write_stream
from mess.codec.tables import Table
from mess.errors import FormatError, WeightsError

# coders: two of old files, whose contexts follow from neighbours, the second with exponents; one whose levels are told
ONE_STEP, EXPONENTS, TOLD = CODERS = (1, 2, 3)
TOGETHER = 1 << 14  # integers of whole terms that are decoded at once


@dataclass(frozen=True)
class Integers:
    """A layer's integers, (rows, columns, terms) int32, and the steps they are multiples of.

    Without levels a writer finds those that suit, and the integers follow no trellis.
    """

    values_RCT: np.ndarray
    step: float
    exponents: Exponents = NO_EXPONENTS
    levels: Levels | None = None


def write_expansions(layers: Sequence[Integers]) -> tuple[int, bytes]:
    """Return the coder, which is the third, and the content of the section of all layers.

    Raises:
        WeightsError: an index beyond ±32,767; levels that no file can say; integers that are not what a trellis gives.
    """
    coded = [_coded(layer) for layer in layers]
    clusters = chosen_clusters(
        np.concatenate([index_KN.ravel() for _, index_KN, _ in coded]),
        np.concatenate([context_KN.ravel() for _, _, context_KN in coded]),
    )
    of_context, lows = clusters_of_contexts(clusters), [cluster.low for cluster in clusters]
    tables = Tables([cluster.table.frequency_A for cluster in clusters])
    lanes = []
    for _, index_KN, context_KN in coded:
        groups = []
        for index_N, cluster_N in zip(index_KN, of_context[context_KN], strict=True):
            groups += [(index_N[cluster_N == place] - lows[place], place) for place in np.unique(cluster_N).tolist()]
        lanes.append(encode_groups(groups, tables))
    levels = [own for own, _, _ in coded]
    steps = NumberArray(np.array([layer.step for layer in layers], dtype=np.float32), "float32")
    head = [
        write_stream(steps, PreviousTable()),
        write_exponents([layer.exponents for layer in layers], levels),
        write_levels(levels),
        write_clusters(clusters),
    ]
    return TOLD, b"".join([*head, *(varint(len(lane)) for lane in lanes), *lanes])


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
    places = range(len(sizes)) if wanted is None else wanted
    found: dict[int, Integers] = {}
    for group in side_by_side(sizes, places) if coder != TOLD else ([place] for place in places):
        decoders = [LaneDecoder(lanes[place], tables) for place in group]
        levels, size = [head.levels[place] for place in group], sizes[group[0]]
        if coder == TOLD:
            values_LRCT = _decode(decoders[0], head.clusters, size, levels[0])[None]
        else:
            values_LRCT = decode_by_neighbours(decoders, head.clusters, size, np.array([x.terms_K for x in levels]))
        for place, decoder, own, values_RCT in zip(group, decoders, levels, values_LRCT, strict=True):
            decoder.finish()
            told = own if coder == TOLD else None
            found[place] = Integers(values_RCT, head.steps[place], head.exponents[place], told)
    return found


def expansion_shares(reader: Reader, coder: int, sizes: Sequence[Size]) -> list[tuple[int, bool]]:
    """Return bytes of the section by layer, and whether its integers follow a trellis.

    The bytes are its lane's, and of what all share as much as its share of all lanes.
    """
    total = reader.left
    head = _read_head(reader, coder, sizes)
    lengths = np.array(head.lengths, dtype=np.int64)
    reader.take(int(lengths.sum()))
    shared = total - reader.left - int(lengths.sum())
    ends = np.cumsum(lengths + 1)  # + 1 so that there is something to share by, also between empty lanes
    shares = (lengths + np.diff(ends * shared // ends[-1:], prepend=0)).tolist()
    return [(share, own.has_trellises) for share, own in zip(shares, head.levels, strict=True)]


def tables_of(reader: Reader, coder: int, sizes: Sequence[Size]) -> list[Table]:
    """Return the tables of the section that all layers share."""
    return [cluster.table for cluster in _read_head(reader, coder, sizes).clusters]


@dataclass(frozen=True)
class _Head:
    """All of the section that is not lanes."""

    steps: list[float]
    exponents: list[Exponents]
    levels: list[Levels]
    clusters: list[ContextCluster]
    lengths: list[int]


def _read_head(reader: Reader, coder: int, sizes: Sequence[Size]) -> _Head:
    numbers = read_stream(reader, len(sizes), PreviousTable())
    if numbers is None or numbers.dtype != "float32" or (numbers.values <= 0).any():
        raise FormatError(reader.where, "steps above 0, as float32", "others")
    steps = numbers.values.astype(float).tolist()
    masks, exponents = [0] * len(sizes), [NO_EXPONENTS] * len(sizes)
    if coder != ONE_STEP:
        masks, exponents = read_exponents(reader, sizes, AXES if coder == TOLD else STEP_AXES)
        if not all(are_steps_good(step, own) for step, own in zip(steps, exponents, strict=True) if own.given):
            raise FormatError(reader.where, "steps that float32 can hold", "others")
    if coder == TOLD:
        levels = read_levels(reader, sizes, masks)
    else:
        levels = [Levels(level_K) for level_K in read_term_levels(reader, sizes)]
    clusters = read_clusters(reader)
    if not clusters and any(rows * columns * terms for rows, columns, terms in sizes):
        raise FormatError(reader.where, "at least one table", "none")
    return _Head(steps, exponents, levels, clusters, [reader.varint(1 << 40) for _ in sizes])


def _coded(layer: Integers) -> tuple[Levels, np.ndarray, np.ndarray]:
    """Return the levels of a layer, and indices and contexts, (K, R·C) both, in the order of coding."""
    values_RCT, levels = layer.values_RCT, layer.levels
    rows, columns, terms = values_RCT.shape
    if levels is None:
        levels = fitted_levels(np.abs(values_RCT))
    _check_levels(levels, values_RCT.shape)
    context_RCT, index_RCT = contexts_of(levels, rows, columns), values_RCT
    if levels.has_trellises:
        index_RCT = indices_of(values_RCT)
    if index_RCT.size and int(np.abs(index_RCT).max()) > MAX_INTEGER:
        raise WeightsError("expanded layer", f"integers up to {MAX_INTEGER}", "larger ones", "a larger step")
    if levels.has_trellises and not np.array_equal(
        integers_of(index_RCT, trellised(levels, rows, columns)), values_RCT
    ):
        raise WeightsError("expanded layer", "integers that a trellis gives", "others")
    index_KN, context_KN = (x.transpose(2, 0, 1).reshape(terms, rows * columns) for x in (index_RCT, context_RCT))
    return levels, index_KN.astype(np.int64), context_KN


def _check_levels(levels: Levels, size: Size) -> None:
    """Refuse levels that no file can say."""
    rows, columns, terms = size
    for axis, own_N, count, lowest, highest in (
        ("terms", levels.terms_K, terms, 0, LEVELS - 1),
        ("rows", levels.rows_R, rows, LOWEST, HIGHEST),
        ("columns", levels.columns_C, columns, LOWEST, HIGHEST),
    ):
        if own_N is None:
            continue
        if own_N.shape != (count,) or ((own_N < lowest) | (own_N > highest)).any():
            raise WeightsError("expanded layer", f"{count} levels of {axis} from {lowest} to {highest}", own_N.tolist())
        if axis != "terms" and not all(size):
            raise WeightsError("expanded layer", f"no levels of {axis} without integers", own_N.tolist())
    if not 0 <= levels.trellised_from <= CONTEXTS:
        raise WeightsError("expanded layer", f"trellises from a context up to {CONTEXTS}", levels.trellised_from)


def _decode(decoder: LaneDecoder, clusters: list[ContextCluster], size: Size, levels: Levels) -> np.ndarray:
    """Return the integers of a layer, (R, C, K)."""
    rows, columns, terms = size
    index_KN = np.zeros((terms, rows * columns), dtype=np.int32)
    if index_KN.size:
        of_context = clusters_of_contexts(clusters)
        low_S = np.array([cluster.low for cluster in clusters], dtype=np.int32)
        together = max(1, TOGETHER // (rows * columns))  # terms: there may be many that are small
        for start in range(0, terms, together):
            own = levels._replace(terms_K=levels.terms_K[start : start + together])
            cluster_RCK = contexts_of(own, rows, columns, of_context)
            cluster_KN = cluster_RCK.transpose(2, 0, 1).reshape(-1, rows * columns)
            order_KN = cluster_KN.argsort(axis=1, kind="stable")  # by cluster, as they were coded
            order_KN += rows * columns * np.arange(len(order_KN))[:, None]
            index_KN[start : start + together].reshape(-1)[order_KN.ravel()] = decoder.decode_runs(
                cluster_KN.take(order_KN.ravel()), low_S
            )
    index_RKC = index_KN.reshape(terms, rows, columns).transpose(1, 0, 2)
    if levels.has_trellises:
        index_RKC = integers_of(index_RKC, trellised(levels, rows, columns).transpose(0, 2, 1))
    return index_RKC.transpose(0, 2, 1)
