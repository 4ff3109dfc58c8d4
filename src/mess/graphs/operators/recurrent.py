"""Recurrent layers: their gates stand in another order in ONNX than in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from mess.graphs.operators.table import Attributes, Operator, UnknownError

LSTM_GATES = (0, 2, 3, 1)  # torch's input, forget, cell, output among ONNX's input, output, forget, cell
GRU_GATES = (1, 0, 2)  # torch's reset, update, new among ONNX's update, reset, hidden


def lstm(
    attributes: Attributes, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, hidden: Tensor | None = None, cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Long short-term memory; (T, B, I) → (T, directions, B, H), last hidden and cell states."""
    _check(attributes, weight, lengths)
    if peepholes is not None or attributes.get("input_forget", 0):
        raise UnknownError("LSTM with peepholes")
    directions, size = recurrent.shape[0], recurrent.shape[2]
    states = [s if s is not None else x.new_zeros(directions, x.shape[1], size) for s in (hidden, cell)]
    parts = _parts(weight, recurrent, bias, LSTM_GATES)
    y, h, c = torch.lstm(x, states, parts, bias is not None, 1, 0.0, False, directions == 2, False)
    return _by_direction(y, directions), h, c


def gru(
    attributes: Attributes, x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, hidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gated recurrent unit; (T, B, I) → (T, directions, B, H), last hidden state."""
    _check(attributes, weight, lengths)
    if not attributes.get("linear_before_reset", 0):
        raise UnknownError("GRU that resets before it multiplies")
    directions, size = recurrent.shape[0], recurrent.shape[2]
    state = hidden if hidden is not None else x.new_zeros(directions, x.shape[1], size)
    parts = _parts(weight, recurrent, bias, GRU_GATES)
    y, h = torch.gru(x, state, parts, bias is not None, 1, 0.0, False, directions == 2, False)
    return _by_direction(y, directions), h


def _check(attributes: Attributes, weight: Tensor, lengths: Tensor | None) -> None:
    usual = attributes.get("direction", "forward") in ("forward", "bidirectional") and weight.dim() == 3
    odd = [name for name in ("activations", "clip", "layout") if attributes.get(name)]
    if odd == ["activations"] and {a.lower() for a in attributes.get("activations")} <= {"sigmoid", "tanh"}:
        odd = []
    if not usual or odd or lengths is not None:
        raise UnknownError("a recurrent layer that runs backwards, or with other activations, limits or lengths")


def _parts(weight: Tensor, recurrent: Tensor, bias: Tensor | None, gates: tuple[int, ...]) -> list[Tensor]:
    """Return the weights of each direction as torch takes them."""
    size = recurrent.shape[2]

    def ordered(rows: Tensor) -> Tensor:
        return torch.cat([rows[g * size : (g + 1) * size] for g in gates])

    parts = []
    for direction in range(len(weight)):
        parts += [ordered(weight[direction]), ordered(recurrent[direction])]
        if bias is not None:
            parts += [ordered(half) for half in bias[direction].chunk(2)]
    return parts


def _by_direction(y: Tensor, directions: int) -> Tensor:
    return y.unflatten(-1, (directions, -1)).transpose(1, 2)


RECURRENT: dict[str, Operator] = {"GRU": gru, "LSTM": lstm}
