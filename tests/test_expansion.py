"""Sums of references in a file: FORMAT.md, clause 10."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mess import codec
from mess.codec import contexts, expansion
from mess.codec.bits import Reader
from mess.codec.grouped import GroupDecoder, encode_groups
from mess.codec.tables import best_table
from mess.errors import FormatError, WeightsError

GOLDEN_WEIGHT = "cd37812661dbdc501aa96c2225026a7456ad7d7b4d73a3a908b32c6e187f8c17"
GOLDEN = "e0946ce67bd36bdf567fd07f194c5e6ee222cbe881290c732043786581c2146e"


def integers_of(shape: tuple[int, int, int], scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Integers whose rows, columns and terms differ in size, as those of networks do."""
    draw = np.random.default_rng(seed)
    size = draw.exponential(1.0, (shape[0], 1, 1)) * draw.exponential(1.0, (1, shape[1], 1))
    return np.rint(draw.laplace(size=shape) * size * scale / (1 + np.arange(shape[2]))).astype(np.int32)


def read(content: bytes, sizes: list[tuple[int, int, int]]) -> list[expansion.Integers]:
    reader = Reader(content, "test")
    layers = expansion.read_expansions(reader, sizes)
    reader.finish()
    return layers


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 7), st.sampled_from([1, 4, 9])), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 2.0, 300.0]),
    st.integers(0, 99),
)
def test_what_is_written_is_read(sizes: list[tuple[int, int, int]], scale: float, seed: int) -> None:
    layers = [expansion.Integers(integers_of(s, scale, seed + i), 0.25 + i) for i, s in enumerate(sizes)]
    found = read(expansion.write_expansions(layers), sizes)
    for before, after in zip(layers, found, strict=True):
        np.testing.assert_array_equal(before.values_RCT, after.values_RCT)
        assert before.step == after.step


def test_numpy_reads_what_constriction_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [expansion.Integers(integers_of((20, 12, 9), 1.5), 0.5), expansion.Integers(integers_of((10, 30, 1)), 0.1)]
    content = expansion.write_expansions(layers)
    monkeypatch.setattr("mess.codec.ans.constriction", None)
    for before, after in zip(layers, read(content, [(20, 12, 9), (10, 30, 1)]), strict=True):
        np.testing.assert_array_equal(before.values_RCT, after.values_RCT)


def test_golden_bytes() -> None:
    rows, columns, terms = np.ogrid[:6, :5, :9]
    values = ((rows * 7 + columns * 3 + terms * 5) % 11 - 5) // (1 + terms // 2)
    content = expansion.write_expansions([expansion.Integers(values.astype(np.int32), 0.125)])
    assert hashlib.sha256(content).hexdigest() == GOLDEN


def test_contexts_save_bytes_where_channels_differ() -> None:
    values = integers_of((64, 64, 9), 0.7)
    flat = np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)
    size = len(expansion.write_expansions([expansion.Integers(values, 1.0)]))
    assert size < 0.9 * len(expansion.write_expansions([expansion.Integers(flat, 1.0)]))


def test_edges_are_quarter_octaves() -> None:
    assert contexts.EDGES.tolist() == [math.ceil(64 * 2 ** ((k - 0.5) / 4)) for k in range(-13, 21)]
    ratios = contexts._octaves(np.array([100, 100]), 10, 20) + contexts.LOWEST
    assert ratios.tolist() == [1, 1]  # a little up, from what is added to ratios


def test_what_is_expected_follows_rows_and_columns_seen_so_far() -> None:
    values = integers_of((8, 6, 4)).astype(np.int64)
    seen = contexts.Seen((8, 6, 4))
    for term, rows in contexts.stages(8, 4):
        before = np.abs(values[:, :, :term]) if term else np.abs(values[: rows.start, :, :1])
        total = before.sum()
        if term and total:
            row, column = (before.sum((1, 2)) / before[0].size, before.sum((0, 2)) / before[:, 0].size)
            octaves = [np.log2(x * before.size / total + 6 / 64) * 4 for x in (row, column)]
            wanted = np.clip((48 + octaves[0][:, None] + octaves[1][None]) / 2, 0, 47)
            assert np.abs(seen.contexts(term, rows, 48) - wanted).max() <= 1.5  # rounded twice, then halved
        elif not total:
            assert (seen.contexts(term, rows, 48) == 24).all()
        seen.add(rows, values[rows, :, term])


def test_levels_stay_in_range() -> None:
    assert contexts.term_level(np.zeros((3, 3))) == 0
    assert contexts.term_level(np.full((3, 3), 32767)) < contexts.LEVELS
    assert contexts.term_level(np.ones((3, 3))) == contexts.LEVEL_OF_ONE


def test_too_large_an_integer_is_refused() -> None:
    with pytest.raises(WeightsError, match="32767"):
        expansion.write_expansions([expansion.Integers(np.full((1, 1, 1), 40000, np.int32), 1.0)])


def test_groups_with_their_own_tables() -> None:
    draw = np.random.default_rng(0)
    groups = [draw.integers(0, size, 50) for size in (2, 5, 1, 300)]
    tables = [best_table(np.bincount(g)).frequency_A for g in groups]
    words = encode_groups(list(zip(groups, tables, strict=True)))
    for numpy_only in (False, True):
        decoder = GroupDecoder(words, tables, numpy_only=numpy_only)
        for place, group in enumerate(groups):
            np.testing.assert_array_equal(decoder.decode(50, place), group)
        decoder.finish()
        with pytest.raises(FormatError, match="ends empty"):
            GroupDecoder(np.append(words, np.uint32(7)), tables, numpy_only=numpy_only).finish()


def test_every_flipped_byte_is_refused_or_decodes_to_numbers() -> None:
    values = integers_of((6, 5, 9))
    content = expansion.write_expansions([expansion.Integers(values, 0.5)])
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 0x55
        try:
            layers = read(bytes(broken), [(6, 5, 9)])
        except FormatError:
            continue
        assert layers[0].values_RCT.shape == values.shape
    for end in range(len(content)):
        with pytest.raises(FormatError):
            read(content[:end], [(6, 5, 9)])


def model_of(values: np.ndarray) -> codec.StoredModel:
    draw = np.random.default_rng(3)
    references = codec.Numbers(draw.integers(-500, 500, 81).astype(np.int32), "int32", 0.001)
    rows, columns, _ = values.shape
    return codec.StoredModel(
        None,
        {"version": "v4"},
        [codec.Codebook(None, 9, 9, False, references)],
        {
            "conv.weight": codec.Expanded((rows, columns, 3, 3), "float32", 0, values, 0.125),
            "fc.bias": codec.Plain((3,), "float32", codec.Numbers(np.arange(3, dtype=np.float32), "float32")),
        },
    )


def golden_integers() -> np.ndarray:
    rows, columns, terms = np.ogrid[:7, :5, :9]
    return (((rows * 7 + columns * 3 + terms * 5) % 11 - 5) // (1 + terms // 2)).astype(np.int32)


@pytest.mark.parametrize("with_constriction", [True, False])
def test_golden_file_is_read_for_ever(with_constriction: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_constriction:
        monkeypatch.setattr("mess.codec.ans.constriction", None)
    found = codec.read_model(Path(__file__).parent / "golden" / "expanded.mess")
    np.testing.assert_array_equal(found.entries["conv.weight"].integers_RCK, golden_integers())
    weight = codec.reconstruct(found)["conv.weight"][0]
    assert hashlib.sha256(weight.astype("<f4").tobytes()).hexdigest() == GOLDEN_WEIGHT


def test_a_whole_file(tmp_path) -> None:
    values = integers_of((7, 5, 9), 2.0)
    stored = model_of(values)
    path = tmp_path / "net.mess"
    size = codec.write_model(path, stored)
    found = codec.read_model(path)
    np.testing.assert_array_equal(found.entries["conv.weight"].integers_RCK, values)
    assert codec.encode_model(found) == path.read_bytes()
    weight, dtype = codec.reconstruct(found)["conv.weight"]
    refs = stored.books[0].numbers.floats().reshape(9, 9).astype(np.float64)
    np.testing.assert_allclose(weight.reshape(7, 5, 9), values * 0.125 @ refs, rtol=1e-5, atol=1e-6)
    assert dtype == "float32"
    info = codec.inspect_file(path)
    assert info.bytes == size == sum(info.sections.values())
    assert sum(t.parts.get("expansions", 0) for t in info.tensors) == info.sections["expansions"]


def test_only_some_tensors(tmp_path) -> None:
    path = tmp_path / "net.mess"
    codec.write_model(path, model_of(integers_of((7, 5, 9))))
    assert list(codec.read_model(path, names=["fc.bias"]).entries) == ["fc.bias"]
    assert list(codec.read_model(path, names=["conv.weight"]).entries) == ["conv.weight"]


def test_units_that_do_not_fit_are_refused() -> None:
    stored = model_of(integers_of((7, 5, 9)))
    wrong = codec.Expanded((7, 5, 2, 2), "float32", 0, integers_of((7, 5, 9)), 0.5)
    content = codec.encode_model(codec.StoredModel(None, {}, stored.books, {"conv.weight": wrong}))
    with pytest.raises(FormatError, match="rows of whole units of 9 numbers"):
        codec.read_model(content)
