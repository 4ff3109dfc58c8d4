"""One ANS stream over groups of symbols, each group with a table of its own (FORMAT.md, clause 10.6).

The coder of `ans`, in a single lane, for a reader that learns which table comes next from what it has decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from mess.codec import ans
from mess.errors import FormatError, MessError


def encode_groups(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the words (uint32) of (symbols, frequencies) groups, which are decoded in this order."""
    if ans.constriction is None:
        raise MessError("constriction", "the package, which writing needs", "none", "pip install constriction")
    coder = ans.constriction.stream.stack.AnsCoder()
    models: dict[int, Any] = {}
    for symbols_N, frequency_A in reversed(groups):
        if len(frequency_A) == 1:  # nothing to say; and no model of constriction's
            continue
        if id(frequency_A) not in models:
            models[id(frequency_A)] = _model(frequency_A)
        coder.encode_reverse(np.ascontiguousarray(symbols_N, dtype=np.int32), models[id(frequency_A)])
    return coder.get_compressed()


class GroupDecoder:
    """Decodes one group after the other; `finish` once all are there."""

    def __init__(self, words: np.ndarray, frequencies: Sequence[np.ndarray], *, numpy_only: bool = False) -> None:
        if len(words) and not words[-1]:
            raise FormatError("entropy-coded stream", "a last word that is not zero", "zero")
        self._tables = list(frequencies)
        self._fast: Any = None
        if ans.constriction is not None and not numpy_only:
            self._fast = ans.constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, dtype=np.uint32))
            self._models = [_model(f) if len(f) > 1 else None for f in frequencies]
            return
        self._words = [int(word) for word in words]
        self._state = 0
        for _ in range(2):
            if self._words:
                self._state = self._state << 32 | self._words.pop()
        self._edges = [np.concatenate([[0], np.cumsum(f)]).astype(np.int64).tolist() for f in frequencies]

    def decode(self, count: int, table: int) -> np.ndarray:
        """Return the next `count` symbols, which use that table."""
        if len(self._tables[table]) == 1:
            return np.zeros(count, dtype=np.int32)
        if self._fast is not None:
            return self._fast.decode(self._models[table], count)
        edges, mask, state, words = self._edges[table], ans.TOTAL - 1, self._state, self._words
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
        left = not self._fast.is_empty() if self._fast is not None else bool(self._state or self._words)
        if left:
            raise FormatError("entropy-coded stream", "a coder that ends empty", "words left over")


def _model(frequency_A: np.ndarray) -> Any:
    return ans.constriction.stream.model.Categorical((frequency_A - 1).astype(np.float64), perfect=False)
