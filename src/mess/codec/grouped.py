"""A lane of groups of symbols, each group with a table of its own (FORMAT.md, clause 10.6).

The coder of `ans`, for a reader that learns which table comes next from what it has decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from mess.codec import ans
from mess.errors import FormatError, MessError


class Tables:
    """Tables that many lanes share, in the form that the coder at hand takes."""

    def __init__(self, frequencies: Sequence[np.ndarray], *, numpy_only: bool = False) -> None:
        self.fast = ans.constriction is not None and not numpy_only
        self.models: list[Any] = [None if len(f) == 1 else self._model(f) for f in frequencies]

    def _model(self, frequency_A: np.ndarray) -> Any:
        """Return constriction's model, or the sums of frequencies before each symbol; nothing for one symbol alone."""
        return ans.model(frequency_A) if self.fast else np.cumsum([0, *frequency_A.tolist()]).tolist()


def encode_groups(groups: Sequence[tuple[np.ndarray, int]], tables: Tables) -> bytes:
    """Return the lane of (symbols, table) groups, which are decoded in this order."""
    if ans.constriction is None:
        raise MessError("constriction", "the package, which writing needs", "none", "pip install constriction")
    coder = ans.constriction.stream.stack.AnsCoder()
    for symbols_N, table in reversed(groups):
        if tables.models[table] is not None:  # one symbol says nothing
            coder.encode_reverse(np.ascontiguousarray(symbols_N, dtype=np.int32), tables.models[table])
    return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class LaneDecoder:
    """Decodes one group after the other; `finish` once all are there."""

    def __init__(self, lane: bytes, tables: Tables) -> None:
        if lane.endswith(b"\0"):
            raise FormatError("entropy-coded lane", "a last byte that is not zero", "zero")
        words = np.frombuffer(lane + bytes(-len(lane) % 4), "<u4").astype(np.uint32)
        self._models = tables.models
        self._fast: Any = ans.constriction.stream.stack.AnsCoder(words) if tables.fast else None
        self._words = [] if tables.fast else words.tolist()
        self._state = 0
        for _ in range(2):
            if self._words:
                self._state = self._state << 32 | self._words.pop()

    def decode(self, counts: Sequence[int]) -> list[np.ndarray]:
        """Return the next symbols (int32): `counts[t]` of them use table t, table by table."""
        return [self._decode(table, count) for table, count in enumerate(counts) if count]

    def decode_runs(self, table_N: np.ndarray, low_T: np.ndarray) -> np.ndarray:
        """Return the next symbols (int32), each plus the lowest of its table; runs of one table are decoded at once."""
        ends = np.append(np.flatnonzero(table_N[1:] != table_N[:-1]) + 1, len(table_N))
        runs = table_N[ends - 1].tolist()
        counts = np.diff(ends, prepend=0)
        found_N = np.concatenate([self._decode(*run) for run in zip(runs, counts.tolist(), strict=True)])
        found_N += np.repeat(low_T[runs], counts)
        return found_N

    def _decode(self, table: int, count: int) -> np.ndarray:
        model = self._models[table]
        if model is None:
            return np.zeros(count, dtype=np.int32)
        return self._slowly(model, count) if self._fast is None else self._fast.decode(model, count)

    def _slowly(self, edges: list[int], count: int) -> np.ndarray:
        mask, state, words = ans.TOTAL - 1, self._state, self._words
        symbols = []
        for _ in range(count):
            quantile = state & mask
            symbol = bisect_right(edges, quantile) - 1
            state = (state >> ans.PRECISION) * (edges[symbol + 1] - edges[symbol]) + quantile - edges[symbol]
            if state < 1 << 32 and words:
                state = state << 32 | words.pop()
            symbols.append(symbol)
        self._state = state
        return np.array(symbols, dtype=np.int32)

    def finish(self) -> None:
        """Refuse words that nothing has asked for.

        Raises:
            FormatError: the coder is not empty.
        """
        left = bool(self._state or self._words) if self._fast is None else not self._fast.is_empty()
        if left:
            raise FormatError("entropy-coded lane", "a coder that ends empty", "words left over")
