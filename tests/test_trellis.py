"""Trellises and levels: what the learner and both readers must agree on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mess.arithmetic.levels import CONTEXTS, Levels, contexts_of, fitted_levels
from mess.arithmetic.trellis import indices_of, integers_of
from mess.scheme.learned.rounding import RoundingProblem, inverse_cholesky_, round_layer, rounded_in_trellises
from mess.scheme.learned.viterbi import best_path, best_paths


@given(st.integers(0, 9), st.integers(0, 4), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_indices_come_back(rows: int, columns: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    indices_RX = random.integers(-9000, 9000, (rows, columns))
    trellised_RX = random.random((rows, columns)) < share
    integers_RX = integers_of(indices_RX, trellised_RX)
    assert np.array_equal(indices_of(integers_RX), indices_RX)
    assert np.array_equal(integers_RX % 4 != 0, trellised_RX)


def test_each_column_has_a_register_of_its_own_that_other_numbers_leave_alone() -> None:
    indices_RX = np.array([[1, 1, 1], [5, 2, 0], [1, 1, 0], [0, 3, 1]])
    trellised_RX = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 1]], dtype=bool)
    # by hand: a number is mirrored where the last bit was 1; bit = parity ^ second last ^ third last
    wanted_RX = np.array([[5, 5, 4], [20, -9, 1], [-5, 5, 1], [-1, 13, 5]])
    assert integers_of(indices_RX, trellised_RX).tolist() == wanted_RX.tolist()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_best_path_is_the_best_of_all(count: int) -> None:
    random = np.random.default_rng(count)
    numbers_N, weight_N = random.normal(size=count) * 2, random.random(count) + 0.1
    found_N = best_path(numbers_N, weight_N)
    every_NP = np.array(list(itertools.product(range(-5, 6), repeat=count))).T
    result_NP = integers_of(every_NP, np.ones(every_NP.shape, dtype=bool)) / 4
    least = (weight_N[:, None] * np.square(numbers_N[:, None] - result_NP)).sum(0).min()
    assert (weight_N * np.square(numbers_N - found_N)).sum() == pytest.approx(least)
    assert (result_NP == found_N[:, None]).all(0).any()


@given(st.integers(1, 30), st.integers(1, 5), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_paths_side_by_side_are_each_the_best(rows: int, columns: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    numbers_RX, trellised_RX = random.normal(size=(rows, columns)) * 4, random.random((rows, columns)) < share
    found_RX = best_paths(numbers_RX, trellised_RX)
    assert np.array_equal(found_RX[~trellised_RX], np.rint(numbers_RX[~trellised_RX]))
    for column in np.flatnonzero(trellised_RX.any(0)):
        there_R = trellised_RX[:, column]
        numbers_N = numbers_RX[there_R, column]
        least = np.square(numbers_N - best_path(numbers_N, np.ones(len(numbers_N)))).sum()
        assert np.square(numbers_N - found_RX[there_R, column]).sum() == pytest.approx(least)
    quarters_RX = (4 * found_RX).astype(np.int64)
    assert np.array_equal(integers_of(indices_of(quarters_RX), trellised_RX), quarters_RX)


def test_a_long_trellis_loses_a_fifth_less_than_rounding_to_its_step() -> None:
    numbers_N = np.random.default_rng(0).uniform(-40, 40, 6000)
    lost = np.square(numbers_N - best_path(numbers_N, np.ones(6000))).mean()
    assert lost == pytest.approx(0.788 / 12, rel=0.03)  # 1.03 dB


def test_a_layer_in_trellises_loses_less_where_bits_are_alike() -> None:
    torch.manual_seed(2)
    weight_GRn = torch.randn(1, 64, 60, dtype=torch.float64)
    mixing = torch.randn(1, 60, 60, dtype=torch.float64)
    upper_Gnn = inverse_cholesky_(mixing @ mixing.mT / 60)
    cost_Gn = 1 / upper_Gnn.diagonal(dim1=1, dim2=2).square()
    problem = RoundingProblem(weight_GRn, upper_Gnn, torch.ones(1, 64).double(), cost_Gn, 1)
    quarters, wanted, quarter, levels = rounded_in_trellises([problem], 0.2)
    assert levels.trellised_from < CONTEXTS
    one_by_one = round_layer(problem, 4 * quarter)

    def lost(integers: torch.Tensor, unrounded: torch.Tensor, step: float) -> float:
        return float((cost_Gn[:, None] * ((unrounded - integers) * step).square()).sum())

    assert lost(quarters, wanted, quarter) < 0.85 * lost(*one_by_one, 4 * quarter)
    indices_RCK = indices_of(quarters.numpy().astype(np.int32).reshape(64, 60, 1))
    trellised_RCK = contexts_of(levels, 64, 60) >= levels.trellised_from
    assert np.array_equal(integers_of(indices_RCK, trellised_RCK), quarters.numpy().reshape(64, 60, 1))


def test_levels_say_how_large_numbers_are() -> None:
    random = np.random.default_rng(1)
    size_RCK = np.exp2(random.integers(0, 4, (40, 1, 1)) + random.integers(0, 3, (1, 50, 1)) - np.arange(3))
    levels = fitted_levels(np.abs(np.rint(random.laplace(size=(40, 50, 3)) * size_RCK)))
    context_RCK = contexts_of(levels, 40, 50)
    half_octaves_RCK = 2 * np.log2(size_RCK) + 24  # 24 is a mean magnitude of 1
    assert np.abs(context_RCK - half_octaves_RCK)[size_RCK > 1].mean() < 1.0
    assert fitted_levels(np.ones((40, 50, 3)))[1:] == (None, None, CONTEXTS)
    assert contexts_of(Levels(np.array([95]), np.array([63, -64])), 2, 1).ravel().tolist() == [47, 15]
