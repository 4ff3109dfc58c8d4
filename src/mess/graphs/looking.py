"""Making a graph fit to be looked at: several inputs at once, answers one an input, their parts of one scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mess.graphs.network import Answers, GraphNetwork
from mess.graphs.operators import UnknownError
from mess.graphs.plan import Plan

# what torch and the operators raise where shapes or arguments do not fit
CANNOT_RUN = (
    UnknownError, ArithmeticError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
NEAR = 1e-3  # of the largest number: answers to several inputs at once and to each alone
APART = 10.0  # times the scale of others that parts of an answer have, to be looked at by themselves
MAX_CHANNELS, MAX_PARTS = 128, 8


@dataclass(frozen=True)
class AnswerView:
    """How the outputs of a graph become answers.

    Attributes:
        batch_axes: by output, the axis along which there is one for each input; None: the output is left out.
        cuts: by output, the axis and the sizes of the parts it is cut into, or None.
    """

    batch_axes: tuple[int | None, ...]
    cuts: tuple[tuple[int, tuple[int, ...]] | None, ...]

    def __call__(self, outputs: Answers) -> Answers:
        """Return the answers, with inputs along the first axis."""
        found: list[Tensor] = []
        for output, axis, cut in zip(outputs, self.batch_axes, self.cuts, strict=True):
            if axis is None:
                continue
            moved = output.movedim(axis, 0)
            found += [moved] if cut is None else moved.split(cut[1], cut[0])
        return tuple(found)


def make_fit(network: GraphNetwork, two: Tensor) -> str:
    """Prepare a network of known operators to be looked at with batches like `two`; return why that cannot be, or "".

    A graph that was exported for one input at a time is tried with its reshapes changed to keep what comes in.
    """
    network.before_squashing = True
    reason = ""
    for plan in (network.plan, for_any_batch(network.plan)):
        network.plan, network.view = plan, None
        try:
            network.view = _view(network, two)
            return ""
        except CANNOT_RUN as error:
            reason = reason or _said(error)
    return reason


def for_any_batch(plan: Plan) -> Plan:
    """Return a plan whose reshapes to one input, said in the graph, keep the number of inputs instead."""
    constants = dict(plan.constants)
    for step in plan.steps:
        shape = constants.get(step.inputs[1]) if step.operator == "Reshape" and len(step.inputs) > 1 else None
        if shape is not None and shape.numel() > 1 and int(shape[0]) == 1 and not step.attributes.get("allowzero", 0):
            constants[step.inputs[1]] = torch.cat([shape.new_zeros(1), shape[1:]])
    return replace(plan, constants=constants)


@torch.no_grad()
def _view(network: GraphNetwork, two: Tensor) -> AnswerView:
    """Find out how outputs lie.

    Raises:
        RuntimeError: they cannot be told apart by input, or do not depend on weights.
    """
    each, both = [network.outputs(x) for x in two.split(1)], network.outputs(two)
    with torch.enable_grad():
        tracked = network.outputs(two[:1].detach().requires_grad_(True))
    axes, cuts = [], []
    for first, second, together, follows in zip(*each, both, tracked, strict=True):
        axis = _batch_axis(first, second, together) if follows.requires_grad else None
        axes.append(axis)
        cuts.append(None if axis is None else _cut(together.movedim(axis, 0)))
    if not any(axis is not None for axis in axes):
        raise RuntimeError("its answers are not one for each input, or have no gradient")
    return AnswerView(tuple(axes), tuple(cuts))


def _batch_axis(first: Tensor, second: Tensor, together: Tensor) -> int | None:
    if first.dim() != together.dim() or first.shape != second.shape:
        return None
    for axis in range(first.dim()):
        if together.shape[axis] == 2 * first.shape[axis] and together.shape[axis] == 2:
            wanted = torch.cat([first, second], axis)
            scale = float(wanted.abs().max()) or 1.0
            if wanted.shape == together.shape and float((wanted - together).abs().max()) <= NEAR * scale:
                return axis
    return None


def _cut(answers: Tensor) -> tuple[int, tuple[int, ...]] | None:
    """Return where to cut detections: coordinates in hundreds would hide all that happens to scores below 1."""
    if answers.dim() != 3:
        return None
    best: tuple[float, int, list[int]] = (APART, 0, [])
    for axis in (1, 2):
        size = answers.shape[axis]
        if not 2 <= size <= MAX_CHANNELS:
            continue
        spread = answers.movedim(axis, 0).flatten(1).square().mean(1).sqrt()
        spread = spread.clamp_min(1e-6 * float(spread.max()) or 1.0)
        ratio = float(spread.max() / spread.min())
        parts = _alike(spread.tolist())
        if ratio > best[0] and 1 < len(parts) <= MAX_PARTS:
            best = (ratio, axis, parts)
    return (best[1], tuple(best[2])) if best[2] else None


def _alike(spread: list[float]) -> list[int]:
    """Return the sizes of runs whose numbers are within a factor of `APART`."""
    sizes: list[int] = []
    low = high = 0.0
    for value in spread:
        if sizes and max(high, value) <= APART * min(low, value):
            sizes[-1] += 1
            low, high = min(low, value), max(high, value)
        else:
            sizes.append(1)
            low = high = value
    return sizes


def _said(error: BaseException) -> str:
    if isinstance(error, UnknownError):
        return f"a use of an operator that cannot be run here: {error}"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
