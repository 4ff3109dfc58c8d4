"""What onnxruntime answers on a model and on what comes out of its file, before that file is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mess.errors import WeightsError

if TYPE_CHECKING:
    import onnx

Feed = Mapping[str, np.ndarray]
SCORES = ("Softmax", "LogSoftmax")  # whose outputs are class scores along the last axis
ROUNDING = 1e-12  # share of an answer's square that is float32's rounding, and no variance
PRODUCTS = ("Gemm", "MatMul", "Add")  # whose outputs are, where they are one row an input


@dataclass(frozen=True)
class OutputAnswer:
    """How one output of a stored model compares.

    Attributes:
        error: squared error over the variance from input to input, over all inputs; over the squared numbers where
            there is one input, or outputs of several shapes.
        agreement: percent of class scores of which the same one is largest; None: they are none.
    """

    name: str
    error: float
    agreement: float | None


@dataclass(frozen=True)
class ModelAnswers:
    """How a stored model compares, output by output, on so many inputs; `made_up`: on none of anybody's."""

    inputs: int
    outputs: tuple[OutputAnswer, ...]
    made_up: bool = False

    @property
    def error(self) -> float:
        """The largest error of an output."""
        return max((o.error for o in self.outputs), default=0.0)

    @property
    def agreement(self) -> float | None:
        """The lowest agreement of an output, None where none is class scores."""
        return min((o.agreement for o in self.outputs if o.agreement is not None), default=None)

    def __str__(self) -> str:
        parts = [
            (f"{o.agreement:.2f} % decided alike, " if o.agreement is not None else "")
            + f"relative squared error {o.error:.2g} of {o.name}"
            for o in self.outputs
        ]
        kind = "made-up " if self.made_up else ""
        return f"{'; '.join(parts)}, on {self.inputs} {kind}input{'s' * (self.inputs != 1)}"


def compare(
    before: bytes, after: bytes, feeds: Sequence[Feed], where: object, *, made_up: bool = False
) -> ModelAnswers | None:
    """Run two models in onnxruntime on the same inputs.

    Args:
        made_up: these are no inputs of anybody's.

    Returns:
        None where the model itself does not run on these inputs, or answers nothing but zeros.

    Raises:
        WeightsError: what is stored does not run, or answers NaN or infinity where the model answers numbers.
    """
    try:
        names, wanted = _outputs(before, feeds)
    except _CannotRunError:
        return None
    try:
        _, found = _outputs(after, feeds)
    except _CannotRunError as error:
        raise WeightsError(where, "a model that onnxruntime runs as before", error) from error
    scores = _scores(before)
    outputs = [
        _answer(name, [run[k] for run in wanted], [run[k] for run in found], name in scores, where)
        for k, name in enumerate(names)
    ]
    compared = tuple(o for o in outputs if o is not None)
    return ModelAnswers(len(feeds), compared, made_up) if compared else None


class _CannotRunError(Exception):
    """What onnxruntime says of a model or of inputs; its own errors have no common base."""


def _outputs(content: bytes, feeds: Sequence[Feed]) -> tuple[list[str], list[list[Any]]]:
    """Return the names of a model's outputs, and what it answers on each input."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return [o.name for o in session.get_outputs()], [session.run(None, dict(feed)) for feed in feeds]
    except Exception as error:
        raise _CannotRunError((str(error).strip().splitlines() or [type(error).__name__])[0][:200]) from error


def _answer(name: str, wanted: list[Any], found: list[Any], scores: bool, where: object) -> OutputAnswer | None:
    """Return how an output compares; None: no floats, or zeros alone, as of what a length or a mask leaves nothing."""
    lost = 0.0
    kept: list[np.ndarray] = []
    same = count = 0
    for a, b in zip(wanted, found, strict=True):
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f":
            return None
        if a.shape != b.shape:  # as many as were detected
            return OutputAnswer(name, float("inf"), None)
        if not np.isfinite(b[np.isfinite(a)]).all():
            raise WeightsError(
                f"{where}: {name}", "numbers, as the model answers", "NaN or infinity; nothing was written"
            )
        a, b = (np.where(np.isfinite(a), x, 0).astype(np.float64) for x in (a, b))
        lost += float(np.square(a - b).sum())
        kept.append(a)
        if scores and a.ndim >= 2 and a.shape[-1] > 1:
            same, count = same + int((a.argmax(-1) == b.argmax(-1)).sum()), count + int(np.prod(a.shape[:-1]))
    total = _spread(kept)
    if not total and not lost:
        return None
    return OutputAnswer(name, lost / total if total else lost, 100 * same / count if count else None)


def _spread(answers: list[np.ndarray]) -> float:
    """Return the squares of answers about their mean; of one answer, or of several shapes or all alike, about zero."""
    power = sum(float(np.square(a).sum()) for a in answers)
    if len({a.shape for a in answers}) != 1 or len(answers) == 1:
        return power
    about = np.mean(answers, axis=0)
    spread = sum(float(np.square(a - about).sum()) for a in answers)
    return spread if spread > ROUNDING * power else power


def _scores(content: bytes) -> set[str]:
    """Return the outputs that are class scores, by what makes them."""
    import onnx

    model: onnx.ModelProto = onnx.load_from_string(content)
    made_by: dict[str, str] = {}
    for node in model.graph.node:  # in order: what an Identity passes on has been made before
        kind = made_by.get(node.input[0], "") if node.op_type == "Identity" else node.op_type
        made_by |= dict.fromkeys(node.output, kind)
    rows = {o.name for o in model.graph.output if len(o.type.tensor_type.shape.dim) == 2}
    return {
        o.name
        for o in model.graph.output
        if made_by.get(o.name) in SCORES or (o.name in rows and made_by.get(o.name) in PRODUCTS)
    }
