"""Sums of references in a file: FORMAT.md, clause 10."""

from __future__ import annotations

import hashlib
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import independent_decoder
from format_helpers import example_v4, of_trellis
from mess import codec
from mess.arithmetic import levels, step_exponents
from mess.codec import contexts, expansion
from mess.codec.bits import Reader
from mess.codec.expansion import Integers
from mess.codec.grouped import LaneDecoder, Tables, encode_groups
from mess.codec.rows import precision_of
from mess.codec.tables import best_table
from mess.errors import FormatError, WeightsError

GOLDEN = "de5bf4a6a413aa1bd002b1205570951e1c416ae80b3cef20260bcddbbf5e0e24"


def exponents_of(shape: tuple[int, int, int], axes: int = 7, seed: int = 0) -> codec.Exponents:
    """Exponents of some axes, as bits, within what a file may say."""
    draw = np.random.default_rng(seed)
    parts = [draw.integers(-9, 10, count) for count in shape]
    return codec.Exponents(*(part if axes >> axis & 1 and all(shape) else None for axis, part in enumerate(parts)))


def integers_of(shape: tuple[int, int, int], scale: float = 1.0, seed: int = 0) -> np.ndarray:
    """Integers whose rows, columns and terms differ in size, as those of networks do."""
    draw = np.random.default_rng(seed)
    size = draw.exponential(1.0, (shape[0], 1, 1)) * draw.exponential(1.0, (1, shape[1], 1))
    return np.rint(draw.laplace(size=shape) * size * scale / (1 + np.arange(shape[2]))).astype(np.int32)


def read(coded: tuple[int, bytes], sizes: list[tuple[int, int, int]]) -> list[Integers]:
    coder, content = coded
    reader = Reader(content, "test")
    layers = expansion.read_expansions(reader, coder, sizes)
    reader.finish()
    return [layers[place] for place in range(len(sizes))]


def levels_of(indices: np.ndarray, told: str, seed: int, trellised_from: int) -> codec.Levels | None:
    """Levels that a file can say: what suits, or anything; None: the writer finds them."""
    if told == "not":
        return None
    fitted = levels.fitted_levels(np.abs(indices))
    if told == "anything" and indices.size:
        draw = np.random.default_rng(seed)
        rows, columns, terms = indices.shape
        row_R, column_C = (draw.integers(-64, 64, count) for count in (rows, columns))
        fitted = codec.Levels(draw.integers(0, 96, terms), row_R, column_C)
    return fitted._replace(trellised_from=trellised_from)


def layer_of(indices: np.ndarray, step: float, exponents: codec.Exponents, own: codec.Levels | None) -> Integers:
    """A layer of these indices."""
    return Integers(indices if own is None else of_trellis(indices, own), step, exponents, own)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from([1, 4, 9])), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 2.0, 20.0]),
    st.integers(0, 99),
    st.lists(st.integers(0, 7), min_size=4, max_size=4),
    st.lists(st.sampled_from(["not", "fitted", "anything"]), min_size=4, max_size=4),
    st.lists(st.integers(0, 48), min_size=4, max_size=4),
)
def test_what_is_written_is_read(
    sizes: list[tuple[int, int, int]], scale: float, seed: int, axes: list[int], told: list[str], starts: list[int]
) -> None:
    layers = []
    for i, size in enumerate(sizes):
        indices = integers_of(size, scale, seed + i)
        own = levels_of(indices, told[i], seed, starts[i])
        layers.append(layer_of(indices, 0.25 + i, exponents_of(size, axes[i], seed), own))
    coded = expansion.write_expansions(layers)
    found = read(coded, sizes)
    for before, after in zip(layers, found, strict=True):
        np.testing.assert_array_equal(before.values_RCT, after.values_RCT)
        assert before.step == after.step
        for own_N, found_N in zip(before.exponents, after.exponents, strict=True):
            np.testing.assert_array_equal(own_N, found_N)
        for own_N, found_N in zip(before.levels or after.levels, after.levels, strict=True):
            np.testing.assert_array_equal(own_N, found_N)
    assert expansion.write_expansions(found) == coded


def test_numpy_reads_what_constriction_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [Integers(integers_of((20, 12, 9), 1.5), 0.5), Integers(integers_of((10, 30, 1)), 0.1)]
    content = expansion.write_expansions(layers)
    monkeypatch.setattr("mess.codec.ans.constriction", None)
    for before, after in zip(layers, read(content, [(20, 12, 9), (10, 30, 1)]), strict=True):
        np.testing.assert_array_equal(before.values_RCT, after.values_RCT)


def test_golden_bytes() -> None:
    rows, columns, terms = np.ogrid[:6, :5, :9]
    values = ((rows * 7 + columns * 3 + terms * 5) % 11 - 5) // (1 + terms // 2)
    _, content = expansion.write_expansions([Integers(values.astype(np.int32), 0.125)])
    assert hashlib.sha256(content).hexdigest() == GOLDEN


def test_contexts_save_bytes_where_channels_differ() -> None:
    values = integers_of((64, 64, 9), 0.7)
    flat = np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)
    size = len(expansion.write_expansions([Integers(values, 1.0)])[1])
    assert size < 0.9 * len(expansion.write_expansions([Integers(flat, 1.0)])[1])


def test_edges_are_quarter_octaves() -> None:
    assert contexts.EDGES.tolist() == [math.ceil(64 * 2 ** ((k - 0.5) / 4)) for k in range(-13, 21)]
    seen = contexts.ContextState(1, 2, 2)
    seen.add(slice(0, 2), np.full((1, 2, 2), 100))
    assert (seen._octaves() + contexts.LOWEST).tolist() == [[1] * 4]  # a little up, from what is added to ratios


def test_what_is_expected_follows_rows_and_columns_seen_so_far() -> None:
    layers = [integers_of((8, 6, 4), seed=seed).astype(np.int64) for seed in range(3)]
    level_T = np.array([48, 40, 55])
    seen = contexts.ContextState(3, 8, 6)  # layers side by side know nothing of one another
    for term, rows in contexts.stages(8, 4):
        stage = seen.stage(term, rows, level_T)
        found = stage.contexts()
        counted = [np.bincount(context.ravel(), minlength=levels.CONTEXTS) for context in found]
        assert np.array_equal(stage.counts(levels.CONTEXTS), counted)
        for values, level, context in zip(layers, level_T, found, strict=True):
            before = np.abs(values[:, :, :term]) if term else np.abs(values[: rows.start, :, :1])
            total = before.sum()
            if term and total:
                row, column = (before.sum((1, 2)) / before[0].size, before.sum((0, 2)) / before[:, 0].size)
                octaves = [np.log2(x * before.size / total + 6 / 64) * 4 for x in (row, column)]
                wanted = np.clip((level + octaves[0][:, None] + octaves[1][None]) / 2, 0, 47)
                assert np.abs(context - wanted).max() <= 1.5  # rounded twice, then halved
            elif not total:
                assert (context == level // 2).all()
        seen.add(rows, np.stack([values[rows, :, term] for values in layers]))


def test_levels_stay_in_range() -> None:
    assert levels.fitted_levels(np.zeros((3, 3, 1), np.int32)).terms_K == 0
    assert levels.fitted_levels(np.full((3, 3, 1), 32767)).terms_K < levels.LEVELS
    assert levels.fitted_levels(np.ones((3, 3, 1))).terms_K == levels.LEVEL_OF_ONE


def test_too_large_an_integer_is_refused() -> None:
    with pytest.raises(WeightsError, match="32767"):
        expansion.write_expansions([Integers(np.full((1, 1, 1), 40000, np.int32), 1.0)])


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (codec.Levels(np.array([48])), "4 levels of terms"),
        (codec.Levels(np.full(4, 96)), "4 levels of terms from 0 to 95"),
        (codec.Levels(np.full(4, 48), np.array([0, 64])), "2 levels of rows from -64 to 63"),
        (codec.Levels(np.full(4, 48), None, np.zeros(2, int)), "3 levels of columns"),
        (codec.Levels(np.full(4, 48), None, None, 49), "a context up to 48, found 49"),
    ],
)
def test_levels_that_no_file_can_say_are_not_written(own: codec.Levels, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        expansion.write_expansions([Integers(np.zeros((2, 3, 4), np.int32), 1.0, levels=own)])


def test_levels_of_rows_of_no_integers_are_not_written() -> None:
    own = codec.Levels(np.full(4, 48), np.zeros(2, int))
    with pytest.raises(WeightsError, match="no levels of rows without integers"):
        expansion.write_expansions([Integers(np.zeros((2, 0, 4), np.int32), 1.0, levels=own)])


@pytest.mark.parametrize("wrong", [2, -2, 1, 4])
def test_integers_that_no_trellis_gives_are_not_written(wrong: int) -> None:
    own = codec.Levels(np.array([48]), None, None, 0)
    values = of_trellis(np.array([0, 1, 0], np.int32).reshape(3, 1, 1), own)
    assert values.ravel().tolist() == [1, 5, -1]  # after an odd index the other quantiser is used
    expansion.write_expansions([Integers(values, 1.0, levels=own)])
    values[2] = wrong
    with pytest.raises(WeightsError, match="integers that a trellis gives"):
        expansion.write_expansions([Integers(values, 1.0, levels=own)])


def test_an_index_of_a_trellis_may_be_as_large_as_any() -> None:
    own = codec.Levels(np.array([95]), None, None, 0)
    largest = of_trellis(np.array([32767, -32767, 32767]).reshape(3, 1, 1), own)
    assert np.abs(largest).max() == 131069
    (found,) = read(expansion.write_expansions([Integers(largest, 1.0, levels=own)]), [(3, 1, 1)])
    np.testing.assert_array_equal(found.values_RCT, largest)


def test_rows_of_nothing_and_a_single_column_take_no_time() -> None:
    own = codec.Levels(np.array([48]), None, None, 0)
    sizes = [(1 << 40, 0, 1), (1 << 20, 1, 1)]
    layers = [Integers(of_trellis(np.zeros(size, np.int32), own), 1.0, levels=own) for size in sizes]
    start = time.process_time()
    found = read(expansion.write_expansions(layers), sizes)
    assert time.process_time() - start < 3  # row by row it would be ten
    assert [(layer.values_RCT == 1).all() for layer in found] == [True, True]


def test_files_say_which_tensors_follow_a_trellis() -> None:
    info = codec.inspect_file(codec.encode_model(example_v4(trellises=True)))
    forms = {tensor.name: tensor.forms.get("expansions") for tensor in info.tensors if tensor.shape != (3,)}
    assert forms == {"a.weight": "on a trellis", "b.weight": None, "bn": None, "fc.weight": "on a trellis"}
    assert "sums of references on a trellis" in precision_of(info)


def test_groups_with_their_own_tables() -> None:
    draw = np.random.default_rng(0)
    groups = [draw.integers(0, size, 50) for size in (2, 5, 1, 300)]
    frequencies = [best_table(np.bincount(g)).frequency_A for g in groups]
    for numpy_only in (False, True):
        tables = Tables(frequencies, numpy_only=numpy_only)
        lane = encode_groups([(group, place) for place, group in enumerate(groups)], Tables(frequencies))
        decoder = LaneDecoder(lane, tables)
        for place, group in enumerate(groups):
            np.testing.assert_array_equal(decoder.decode([50 * (n == place) for n in range(4)])[0], group)
        decoder.finish()
        with pytest.raises(FormatError, match="ends empty"):
            LaneDecoder(lane + b"\7", tables).finish()
        with pytest.raises(FormatError, match="last byte that is not zero"):
            LaneDecoder(lane + b"\0", tables)


def test_layers_are_decoded_alone_or_side_by_side_to_the_same() -> None:
    sizes = [(8, 6, 9), (5, 7, 1), (8, 6, 9), (3, 0, 9), (8, 6, 4), (8, 6, 9)]
    layers = [Integers(integers_of(size, 1.5, seed), 0.5) for seed, size in enumerate(sizes)]
    coder, content = expansion.write_expansions(layers)
    for wanted in ([0], [5], [4, 1], [3], [], range(6)):
        found = expansion.read_expansions(Reader(content, "test"), coder, sizes, wanted)
        assert sorted(found) == sorted(wanted)
        for place, layer in found.items():
            np.testing.assert_array_equal(layer.values_RCT, layers[place].values_RCT)


def test_bytes_by_layer_are_known_without_decoding_and_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(16, 16, 9), (4, 4, 9), (16, 16, 9), (0, 4, 9)]
    scales = [2.0, 2.0, 0.1, 1.0]
    layers = [Integers(integers_of(size, scale), 0.5) for size, scale in zip(sizes, scales, strict=True)]
    coder, content = expansion.write_expansions(layers)
    monkeypatch.setattr(expansion, "_decode", None)
    reader = Reader(content, "test")
    shares, _ = zip(*expansion.expansion_shares(reader, coder, sizes), strict=True)
    reader.finish()
    assert sum(shares) == len(content)
    assert shares[0] > shares[2] > shares[1] > shares[3] >= 0


@pytest.mark.parametrize("axes", [0, 2, 7])
def test_every_flipped_byte_is_refused_or_decodes_to_numbers(axes: int) -> None:
    values = integers_of((6, 5, 9))
    coder, content = expansion.write_expansions([Integers(values, 0.5, exponents_of((6, 5, 9), axes))])
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 0x55
        try:
            layers = read((coder, bytes(broken)), [(6, 5, 9)])
        except FormatError:
            continue
        assert layers[0].values_RCT.shape == values.shape
        assert (step_exponents.steps_of(layers[0].step, layers[0].exponents) > 0).all()
    for end in range(len(content)):
        with pytest.raises(FormatError):
            read((coder, content[:end]), [(6, 5, 9)])


def test_steps_are_quarter_octaves() -> None:
    exponents = codec.Exponents(np.array([-64, 0, 63]), np.array([1, 2]), None)
    found = step_exponents.steps_of(0.3, exponents)
    assert found.shape == (3, 2, 1)
    np.testing.assert_allclose(
        found[..., 0], np.float32(0.3) * 2.0 ** (np.array([[-63, -62], [1, 2], [64, 65]]) / 4), rtol=2e-7
    )
    assert step_exponents.steps_of(0.3, step_exponents.NO_EXPONENTS).tolist() == [[[np.float32(0.3)]]]


@pytest.mark.parametrize("step", [1e-38, 3e38])
def test_steps_that_float32_cannot_hold_are_refused(step: float) -> None:
    exponents = codec.Exponents(None, np.array([-8, 0, 9]), None)
    coded = expansion.write_expansions([Integers(integers_of((2, 3, 1)), step, exponents)])
    with pytest.raises(FormatError, match="steps that float32 can hold"):
        read(coded, [(2, 3, 1)])


def test_exponents_of_a_tensor_without_integers_are_refused() -> None:
    exponents = codec.Exponents(np.array([1, 2]), None, None)
    coded = expansion.write_expansions([Integers(integers_of((2, 0, 1)), 1.0, exponents)])
    with pytest.raises(FormatError, match="no exponents or levels of a tensor without integers"):
        read(coded, [(2, 0, 1)])


def model_of(values: np.ndarray, exponents: codec.Exponents = step_exponents.NO_EXPONENTS) -> codec.StoredModel:
    draw = np.random.default_rng(3)
    references = codec.NumberArray(draw.integers(-500, 500, 81).astype(np.int32), "int32", 0.001)
    rows, columns, _ = values.shape
    return codec.StoredModel(
        None,
        {"version": "v4"},
        [codec.Codebook(None, 9, 9, False, references)],
        {
            "conv.weight": codec.Expanded((rows, columns, 3, 3), "float32", 0, values, 0.125, exponents),
            "fc.bias": codec.Plain((3,), "float32", codec.NumberArray(np.arange(3, dtype=np.float32), "float32")),
        },
    )


@pytest.mark.parametrize("axes", [0, 1, 2, 4, 7])
def test_a_whole_file(tmp_path, axes: int) -> None:
    values = integers_of((7, 5, 9), 2.0)
    exponents = exponents_of((7, 5, 9), axes)
    stored = model_of(values, exponents)
    path = tmp_path / "net.mess"
    size = codec.write_model(path, stored)
    found = codec.read_model(path)
    np.testing.assert_array_equal(found.entries["conv.weight"].integers_RCK, values)
    assert codec.encode_model(found) == path.read_bytes()
    weight, dtype = codec.reconstruct(found)["conv.weight"]
    refs = stored.books[0].numbers.floats().reshape(9, 9).astype(np.float64)
    scaled = values * step_exponents.steps_of(0.125, exponents).astype(np.float64)
    np.testing.assert_allclose(weight.reshape(7, 5, 9), scaled @ refs, rtol=1e-5, atol=1e-5)
    assert dtype == "float32"
    slowly, _ = independent_decoder.decode(path.read_bytes())["conv.weight"]
    assert slowly.tobytes() == weight.tobytes()
    info = codec.inspect_file(path)
    assert info.format == (1, 2)
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
