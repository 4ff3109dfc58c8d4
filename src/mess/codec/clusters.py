"""Which contexts share a table (FORMAT.md 10.2, 10.5, 10.7).

Tables are shared by the whole network: a context says how large an integer should be, and that means the same in every
layer. Many small tables would cost more than they save.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mess.arithmetic.levels import CONTEXTS
from mess.codec.bits import Reader, unzigzag, varint, zigzag
from mess.codec.tables import Table, best_table, read_table
from mess.errors import FormatError

MAX_INTEGER = (1 << 15) - 1


@dataclass(frozen=True)
class ContextCluster:
    """Contexts that share a table, from `first` up to the first of the next cluster; symbols are integers − low."""

    first: int
    low: int
    table: Table
    bits: float


def write_clusters(clusters: Sequence[ContextCluster]) -> bytes:
    """Return which contexts have a table, and the tables."""
    mask = sum(1 << cluster.first for cluster in clusters).to_bytes(CONTEXTS // 8, "little")
    return mask + b"".join(varint(zigzag(cluster.low)) + cluster.table.content for cluster in clusters)


def read_clusters(reader: Reader) -> list[ContextCluster]:
    """Undo `write_clusters`.

    Raises:
        FormatError: integers beyond ±32,767, or anything else a writer would not write.
    """
    mask = int.from_bytes(reader.take(CONTEXTS // 8), "little")
    return [_read_cluster(reader, first) for first in range(CONTEXTS) if mask >> first & 1]


def clusters_of_contexts(clusters: Sequence[ContextCluster]) -> np.ndarray:
    """Return the cluster of each context: the last that starts at or below it, or the first; uint8."""
    firsts = [cluster.first for cluster in clusters]
    return np.maximum(np.searchsorted(firsts, np.arange(CONTEXTS), side="right") - 1, 0).astype(np.uint8)


def chosen_clusters(integers_N: np.ndarray, context_N: np.ndarray) -> list[ContextCluster]:
    """Choose which contexts share a table: neighbours are joined as long as that saves more than it costs."""
    parts = [(int(c), integers_N[context_N == c]) for c in np.unique(context_N)]
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


def _fitted(first: int, integers_N: np.ndarray) -> ContextCluster:
    low = int(integers_N.min())
    counts_A = np.bincount(integers_N - low)
    table = best_table(counts_A)
    return ContextCluster(first, low, table, table.cost(counts_A) + 8 * (len(table.content) + len(varint(zigzag(low)))))


def _read_cluster(reader: Reader, first: int) -> ContextCluster:
    low = unzigzag(reader.varint(1 << 17))
    table = read_table(reader)
    if low < -MAX_INTEGER or low + len(table.frequency_A) - 1 > MAX_INTEGER:
        raise FormatError(reader.where, f"integers up to ±{MAX_INTEGER}", "a table beyond")
    return ContextCluster(first, low, table, 0.0)
