"""Integers as bits: nothing lost, hardly more than the entropy, and the same by NumPy as by constriction."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import example as instance
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from format_helpers import example
from mess import codec
from mess.codec import ans, grouped, streams
from mess.codec.bits import Reader
from mess.codec.tables import best_table, frequencies, read_table
from mess.errors import FormatError

MILLION = 1_000_000
INT64 = (-(1 << 63), (1 << 63) - 1)
counts = hnp.arrays(np.int64, st.integers(1, 400), elements=st.integers(0, 10**6))
integers = hnp.arrays(np.int64, st.integers(0, 300), elements=st.integers(-(2**62), 2**62)) | hnp.arrays(
    np.int64, st.integers(0, 300), elements=st.integers(-9, 9)
)


def drawn(kind: str, count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return {
        "bell": lambda: np.rint(random.normal(0, 12, count)),
        "narrow bell": lambda: np.rint(random.normal(0, 0.4, count)),
        "tent": lambda: np.rint(random.laplace(0, 20, count)),
        "even": lambda: random.integers(0, 256, count),
        "indices": lambda: random.zipf(1.3, count) % 512,
        "nearly always 0": lambda: random.random(count) < 0.01,
        "two humps": lambda: np.rint(np.where(random.random(count) < 0.5, -80, 80) + random.normal(0, 9, count)),
    }[kind]().astype(np.int64)


def whole(parts: Iterable[tuple[int, np.ndarray]], count: int) -> np.ndarray:
    """Return `count` symbols that come in parts, each of them once."""
    symbols_N = np.full(count, -1)
    for start, symbols_S in parts:
        assert (symbols_N[start : start + len(symbols_S)] == -1).all()
        symbols_N[start : start + len(symbols_S)] = symbols_S
    assert not (symbols_N == -1).any()
    return symbols_N


@settings(deadline=None, max_examples=60)
@given(counts, st.randoms(use_true_random=False))
def test_a_table_is_said_in_a_few_bytes_and_adds_up(counts_A: np.ndarray, dice: object) -> None:
    table = best_table(counts_A)
    assert int(table.frequency_A.sum()) == ans.TOTAL
    assert int(table.frequency_A.min()) >= 1
    reader = Reader(table.content, "here")
    assert np.array_equal(read_table(reader).frequency_A, table.frequency_A)
    assert not reader.left


@settings(deadline=None, max_examples=60)
@given(counts, st.integers(0, 3000), st.integers(0, 2**32))
def test_numpy_decodes_what_constriction_does(counts_A: np.ndarray, count: int, seed: int) -> None:
    frequency_A = frequencies(counts_A)
    random = np.random.default_rng(seed)
    symbols_N = random.integers(0, len(counts_A), count) if seed % 2 else random.zipf(1.5, count) % len(counts_A)
    if len(counts_A) == 1:
        assert not whole(ans.decode([np.empty(0, np.uint32)], count, frequency_A), count).any()
        return
    lanes = ans.encode(symbols_N, frequency_A)
    by_numpy = ans.decode_with_numpy(lanes, ans.lane_bounds(count, len(lanes)), frequency_A)
    for parts in (ans.decode(lanes, count, frequency_A), by_numpy):
        assert np.array_equal(whole(parts, count), symbols_N)
    lane = grouped.encode_groups([(symbols_N, 0)], grouped.Tables([frequency_A]))
    for numpy_only in (False, True):
        decoder = grouped.LaneDecoder(lane, grouped.Tables([frequency_A], numpy_only=numpy_only))
        assert np.array_equal(np.concatenate([*decoder.decode([count]), []]), symbols_N)
        decoder.finish()


@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.generate])  # shrinking these takes minutes
@instance([np.array([-(2**63), 2**63 - 1])])
@instance([np.array([2**63 - 1] * 3 + [0]), np.array([-(2**63), 5])])
@given(st.lists(integers, min_size=1, max_size=4))
def test_integers_come_back_also_where_streams_share_a_table(rows: list[np.ndarray]) -> None:
    writing, reading = streams.PreviousTable(), streams.PreviousTable()
    content = b"".join(streams.write_integers(row, writing) for row in rows)
    reader = Reader(content, "here")
    for row in rows:
        assert np.array_equal(streams.read_integers(reader, len(row), reading, INT64), row)
    assert not reader.left


@pytest.mark.parametrize("kind", ["bell", "narrow bell", "tent", "even", "indices", "nearly always 0", "two humps"])
def test_a_million_symbols_take_hardly_more_than_their_entropy(kind: str) -> None:
    values_N = drawn(kind, MILLION)
    _, counts_A = np.unique(values_N, return_counts=True)
    entropy = -(counts_A * np.log2(counts_A / MILLION)).sum() / 8
    content = streams.write_integers(values_N, streams.PreviousTable())
    assert len(content) <= 1.003 * entropy
    assert np.array_equal(
        streams.read_integers(Reader(content, "here"), MILLION, streams.PreviousTable(), streams.INT32), values_N
    )


@pytest.mark.parametrize("values", [[], [7], [7] * MILLION, [-1, -1]])
def test_what_says_nothing_costs_nothing_to_speak_of(values: list[int]) -> None:
    assert len(streams.write_integers(np.array(values, dtype=np.int64), streams.PreviousTable())) <= 3


def test_words_that_no_encoder_writes_are_refused() -> None:
    frequency_A = frequencies(np.array([3, 1, 5]))
    symbols_N = np.arange(500) % 3
    (words,) = ans.encode(symbols_N, frequency_A)
    bounds = [0, 500]
    for wrong in (np.append(words, np.uint32(5)), words[1:], words[:-1], np.append(words, np.uint32(0))):
        with pytest.raises(FormatError, match="entropy-coded stream"):
            whole(ans.decode([wrong], 500, frequency_A), 500)
        if wrong[-1]:
            with pytest.raises(FormatError, match="entropy-coded stream"):
                whole(ans.decode_with_numpy([wrong], bounds, frequency_A), 500)


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(["v1", "v2", "v2a", "v2q", "v3", "v3a"]), st.sampled_from([4, 7, 8, 12, 16, 32]))
def test_any_number_of_bits_comes_back_the_same_from_many_threads(version: str, bits: int) -> None:
    stored = example(version, bits=bits)
    content = codec.encode_model(stored)
    whole = codec.reconstruct(stored)

    def one(name: str) -> bool:
        found, dtype = codec.reconstruct(codec.read_model(content, names=[name]), names=[name])[name]
        return dtype == whole[name][1] and np.array_equal(found, whole[name][0])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, list(whole) * 2))


def test_bytes_that_cannot_be_coded_smaller_are_copied() -> None:
    values_N = drawn("even", MILLION)
    content = streams.write_integers(values_N, streams.PreviousTable())
    assert values_N.astype(np.uint8).tobytes() in content
    assert len(content) <= MILLION + 10
