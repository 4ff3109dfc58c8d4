"""The path through a trellis that loses least (Viterbi 1967; for quantisation, Marcellin and Fischer 1990)."""

from __future__ import annotations

import numpy as np

STATES = 8  # the last three bits of the register: 4·third + 2·second + last (`mess.arithmetic.trellis`)
INFINITE = float("inf")
# of each state: the two that it is reached from, and by which of the four losses
FROM = np.array([[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]])
LOSS = np.array([[0, 1, 2, 3, 1, 0, 3, 2], [1, 0, 3, 2, 0, 1, 2, 3]])
SIDE_BY_SIDE = 2048  # paths whose losses in all states lie near the processor


def best_path(numbers_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Return what numbers become, in steps: multiples of a half step, a quarter beside whole ones.

    The register starts empty; Σ weight·(number − result)² is the least that any path has.

    Args:
        numbers_N: in steps, float64.
        weight_N: of their squared errors.
    """
    loss_4N = weight_N * _losses(numbers_N)
    return _taken(numbers_N, np.array(_choices(loss_4N.tolist())))


def best_paths(numbers_RX: np.ndarray, trellised_RX: np.ndarray) -> np.ndarray:
    """Return what numbers become, in steps, where every squared error counts alike and no column waits for another.

    As `best_path` down each column, all of them at once: a number takes an eighth of the time.

    Args:
        numbers_RX: in steps, float64; each column has a path of its own.
        trellised_RX: which are steps of it; others become the nearest integer.
    """
    result_RX = np.rint(numbers_RX)
    for start in range(0, numbers_RX.shape[1], SIDE_BY_SIDE):
        part = np.s_[:, start : start + SIDE_BY_SIDE]
        choice_RX = _choices_side_by_side(numbers_RX[part], trellised_RX[part])
        np.copyto(result_RX[part], _taken(numbers_RX[part], choice_RX), where=trellised_RX[part])
    return result_RX


def _losses(numbers_N: np.ndarray) -> np.ndarray:
    """Return the squared errors of the nearest even and odd index of one quantiser, and of the other, (4, N)."""
    loss_4N = np.empty((4, *numbers_N.shape))
    for quantiser, mirrored_N in enumerate((numbers_N - 0.25, -0.25 - numbers_N)):
        even_N, odd_N = loss_4N[2 * quantiser : 2 * quantiser + 2]
        np.subtract(mirrored_N, 2 * np.rint(mirrored_N / 2), out=even_N)
        np.subtract(1, np.abs(even_N), out=odd_N)  # the nearest odd index is on the other side
    return np.square(loss_4N, out=loss_4N)


def _taken(numbers_N: np.ndarray, choice_N: np.ndarray) -> np.ndarray:
    """Return what numbers become by 2·quantiser + parity."""
    sign_N, parity_N = 1 - (choice_N & 2), choice_N & 1
    return sign_N * (0.25 + parity_N + 2 * np.rint((sign_N * numbers_N - 0.25 - parity_N) / 2))


def _choices(losses: list[list[float]]) -> list[int]:
    """Return 2·quantiser + parity for each number.

    A state's two predecessors differ in the oldest bit, so one bit a state says where the best path came from. Plain
    floats: a number takes about a microsecond, a fifth of what the calls of NumPy would.
    """
    f0, f1, f2, f3, f4, f5, f6, f7 = 0.0, *[INFINITE] * (STATES - 1)
    came = []
    for even, odd, mirrored_even, mirrored_odd in zip(*losses, strict=True):
        a0, b0 = f0 + even, f4 + odd
        a1, b1 = f0 + odd, f4 + even
        a2, b2 = f1 + mirrored_even, f5 + mirrored_odd
        a3, b3 = f1 + mirrored_odd, f5 + mirrored_even
        a4, b4 = f2 + odd, f6 + even
        a5, b5 = f2 + even, f6 + odd
        a6, b6 = f3 + mirrored_odd, f7 + mirrored_even
        a7, b7 = f3 + mirrored_even, f7 + mirrored_odd
        came.append((b0 < a0, b1 < a1, b2 < a2, b3 < a3, b4 < a4, b5 < a5, b6 < a6, b7 < a7))
        f0, f1 = b0 if b0 < a0 else a0, b1 if b1 < a1 else a1
        f2, f3 = b2 if b2 < a2 else a2, b3 if b3 < a3 else a3
        f4, f5 = b4 if b4 < a4 else a4, b5 if b5 < a5 else a5
        f6, f7 = b6 if b6 < a6 else a6, b7 if b7 < a7 else a7
    ends = (f0, f1, f2, f3, f4, f5, f6, f7)
    state, choices = ends.index(min(ends)), []
    for from_state in reversed(came):
        oldest = from_state[state]
        parity = (state ^ state >> 2 ^ oldest) & 1
        state = oldest << 2 | state >> 1
        choices.append((state & 1) << 1 | parity)
    return choices[::-1]


def _choices_side_by_side(numbers_RX: np.ndarray, trellised_RX: np.ndarray) -> np.ndarray:
    """Return 2·quantiser + parity for each number that is a step of its column's trellis."""
    rows, columns = numbers_RX.shape
    loss_8X = np.full((STATES, columns), INFINITE)
    loss_8X[0] = 0
    without_8X, with_8X, own_8X = (np.empty_like(loss_8X) for _ in range(3))
    came_R8X = np.empty((rows, STATES, columns), dtype=bool)  # whether the best path had the oldest bit
    for numbers_X, there_X, came_8X in zip(numbers_RX, trellised_RX, came_R8X, strict=True):
        own_4X = _losses(numbers_X)
        for from_8X, from_8, own_8 in zip((without_8X, with_8X), FROM, LOSS, strict=True):
            np.take(loss_8X, from_8, axis=0, out=from_8X, mode="clip")
            from_8X += np.take(own_4X, own_8, axis=0, out=own_8X, mode="clip")
        np.less(with_8X, without_8X, out=came_8X)
        np.copyto(loss_8X, np.minimum(without_8X, with_8X, out=without_8X), where=there_X)
    state_X, every_X = loss_8X.argmin(axis=0), np.arange(columns)
    choice_RX = np.empty((rows, columns), dtype=np.int8)
    for row in reversed(range(rows)):
        oldest_X = came_R8X[row, state_X, every_X]
        choice_RX[row] = state_X & 2 | (state_X ^ state_X >> 2 ^ oldest_X) & 1
        np.copyto(state_X, oldest_X << 2 | state_X >> 1, where=trellised_RX[row])
    return choice_RX
