"""A graph as steps, run one after the other: names in, names out, attributes, and when a value is last needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mess.graphs.operators import OPERATORS, Attributes
from mess.graphs.tensors import NORM_PARTS, each_held, stored_as

if TYPE_CHECKING:
    import onnx

FLOATS = (1, 10, 11, 16)  # ONNX's numbers of float32, float16, float64, bfloat16
DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        outer: values that graphs within it use.
        layer: prefix of the BatchNorm layer whose tensors it uses, "" for any other node.
        within: graphs within it by attribute, as steps.
        ended: values that no later step needs.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    layer: str = ""
    within: dict[str, Plan] = field(default_factory=dict)
    ended: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A value whose numbers are a tensor of the file."""

    name: str
    transposed: bool


@dataclass(frozen=True)
class GraphInput:
    """What a network takes: sizes of dimensions, None where any will do, and ONNX's number of the kind of numbers."""

    name: str
    shape: tuple[int | None, ...]
    kind: int

    @property
    def is_float(self) -> bool:
        """Whether it takes floats."""
        return self.kind in FLOATS


@dataclass(frozen=True)
class Plan:
    """A graph.

    Attributes:
        constants: values that are in the graph itself; floats as float32.
        stored: values that are in the file.
    """

    steps: tuple[Step, ...]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Tensor]
    stored: dict[str, Stored]

    def unknown(self) -> list[str]:
        """Return the operators that cannot be run."""
        found = {s.operator for s in self.steps if s.operator not in OPERATORS and s.operator != "If"}
        return sorted(found.union(*(w.unknown() for s in self.steps for w in s.within.values())))


def make_plan(model: onnx.ModelProto, where: str) -> Plan:
    """Return the steps of a model whose tensors were taken out.

    Raises:
        FormatError: a graph that no writer makes.
    """
    opset = next((o.version for o in model.opset_import if o.domain in DOMAINS), 1)
    return _plan(model.graph, opset, where, ())


def _plan(graph: onnx.GraphProto, opset: int, where: str, kept: Iterable[str]) -> Plan:
    from onnx import TensorProto, numpy_helper

    constants: dict[str, Tensor] = {}
    stored: dict[str, Stored] = {}
    own = {t.name for t in graph.initializer} | {n.output[0] for n in graph.node if n.op_type == "Constant"}
    for tensor, value in each_held(graph):
        if value not in own:
            continue
        if tensor.data_location == TensorProto.EXTERNAL:
            stored[value] = Stored(*stored_as(tensor, where))
        elif (constant := _tensor(numpy_helper.to_array(tensor))) is not None:
            constants[value] = constant
    known = constants.keys() | stored.keys()
    steps = [_step(node, opset, where, stored) for node in graph.node if not {*node.output} <= known or not node.output]
    needed = {*kept, *(o.name for o in graph.output)}
    ended: list[tuple[str, ...]] = []
    for step in reversed(steps):
        used = {*step.inputs, *step.outputs} | _outer(step)
        ended.append(tuple(used - needed - known))
        needed |= used
    inputs = tuple(_input(i) for i in graph.input if i.name not in known)
    return Plan(
        tuple(replace(step, ended=names) for step, names in zip(steps, reversed(ended), strict=True)),
        inputs, tuple(o.name for o in graph.output), constants, stored,
    )  # fmt: skip


def _outer(step: Step) -> set[str]:
    """Return the values from outside that graphs within a step use."""
    found: set[str] = set()
    for plan in step.within.values():
        made = plan.constants.keys() | plan.stored.keys() | {o for s in plan.steps for o in s.outputs}
        used = {name for s in plan.steps for name in s.inputs} | {*plan.outputs}
        found |= (used.union(*(_outer(s) for s in plan.steps))) - made
    return found


def _step(node: onnx.NodeProto, opset: int, where: str, stored: dict[str, Stored]) -> Step:
    values: dict[str, Any] = {}
    within: dict[str, Plan] = {}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            within[attribute.name] = _plan(attribute.g, opset, where, ())
        else:
            values[attribute.name] = _value(attribute)
    operator = node.op_type if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"
    outputs = len([o for o in node.output if o])
    layer = ""
    if operator == "BatchNormalization":
        names = [stored[v].name if v in stored else "" for v in node.input[1:5]]
        prefix, _, part = names[0].rpartition(".")
        if prefix and part == "weight" and names == [f"{prefix}.{p}" for p in NORM_PARTS.values()]:
            layer = prefix
    return Step(operator, tuple(node.input), tuple(node.output), Attributes(values, opset, outputs), layer, within)


def _value(attribute: onnx.AttributeProto) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _tensor(onnx.numpy_helper.to_array(value))
    if isinstance(value, int | float | str) or value is None:
        return value
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]


def _tensor(array: np.ndarray) -> Tensor | None:
    """Return numbers as torch's, floats as float32; None for text and kinds that torch lacks."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array, dtype=np.float32))
    if array.dtype.kind in "iub" and array.dtype.name not in ("uint16", "uint32", "uint64"):
        return torch.from_numpy(np.array(array))
    return None


def _input(value: onnx.ValueInfoProto) -> GraphInput:
    described = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in described.shape.dim)
    return GraphInput(value.name, shape, described.elem_type)
