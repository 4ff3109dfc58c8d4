"""A graph as a torch module, to look at a network that comes as ONNX: its weights are the tensors of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mess.graphs.operators import OPERATORS, UnknownError
from mess.graphs.plan import Plan, Step, make_plan
from mess.graphs.tensors import read_graph

Answers = tuple[Tensor, ...]
CPU = torch.device("cpu")
SQUASHED = ("Softmax", "LogSoftmax", "Sigmoid")  # last steps that hide how sure a network is


class Norm(nn.BatchNorm2d):
    """BatchNorm over any number of dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        pass


class GraphNetwork(nn.Module):
    """A network that a graph describes. It runs in float32, whatever its weights are kept in.

    Args:
        graph: of a file (FORMAT.md, clause 12).
        tensors: those that the graph asks for, by name.
        where: the file, for errors.

    Attributes:
        graph: as given.
        plan: its steps.
        view: what makes answers of the outputs, where these are to be looked at.
        before_squashing: answer with what goes into a last softmax or sigmoid, as networks in torch do.
    """

    def __init__(self, graph: bytes, tensors: Mapping[str, Tensor], where: str = "model") -> None:
        super().__init__()
        self.graph = graph
        self.plan: Plan = make_plan(read_graph(graph, where), where)
        self.view: Callable[[Answers], Answers] | None = None
        self.before_squashing = False
        for prefix, eps, channels in _norms(self.plan, tensors):
            above, _, part = prefix.rpartition(".")
            _home(self, above).add_module(part, Norm(channels, eps=eps))
        for name, tensor in tensors.items():
            self._take(name, tensor)

    def unknown(self) -> list[str]:
        """Return the operators that cannot be run here."""
        return self.plan.unknown()

    def forward(self, *inputs: Tensor) -> Tensor | Answers:
        """Run the graph on its inputs, in their order; several outputs come as a tuple."""
        answers = self.outputs(*inputs)
        if self.view is not None:
            answers = self.view(answers)
        return answers[0] if len(answers) == 1 else answers

    def outputs(self, *inputs: Tensor) -> Answers:
        """Return all outputs as they come.

        Raises:
            UnknownError: an operator, or a way of using one, that is not known here.
        """
        given = {i.name: x.float() if i.is_float else x for i, x in zip(self.plan.inputs, inputs, strict=True)}
        shown = _unsquashed(self.plan) if self.before_squashing else self.plan.outputs
        return self._run(self.plan, given, shown)

    def _run(self, plan: Plan, outer: Mapping[str, Tensor], shown: tuple[str, ...]) -> Answers:
        values = {**outer, **plan.constants}
        for name, stored in plan.stored.items():
            tensor = self._tensor(stored.name)
            values[name] = tensor.mT if stored.transposed else tensor
        for step in plan.steps:
            found = self._step(step, values, plan)
            values |= zip(step.outputs, found, strict=False)
            for name in step.ended:
                if name not in shown:
                    values.pop(name, None)
        return tuple(values[name] for name in shown)

    def _step(self, step: Step, values: Mapping[str, Tensor], plan: Plan) -> Answers:
        if step.operator == "If":
            branch = step.within["then_branch" if bool(values[step.inputs[0]].any()) else "else_branch"]
            return self._run(branch, values, branch.outputs)
        if step.operator not in OPERATORS:
            raise UnknownError(step.operator)
        if step.layer:
            return (self.get_submodule(step.layer)(values[step.inputs[0]]),)
        given = _together([values[name] if name else None for name in step.inputs])
        if step.operator in ("MatMul", "Gemm") and (stored := plan.stored.get(step.inputs[1])) and stored.transposed:
            # the very tensor of the file, so that it is seen what it is multiplied with
            weight = self._tensor(stored.name)
            if step.operator == "MatMul":
                return (nn.functional.linear(given[0], weight),)  # type: ignore[arg-type]
            given[1] = weight
            step = _with_rows(step)
        found = OPERATORS[step.operator](step.attributes, *given)
        return found if isinstance(found, tuple) else (found,)

    def value(self, name: str) -> Tensor | None:
        """Return a value that does not depend on inputs: a constant or a weight; None: any other."""
        if name in self.plan.stored:
            return self._tensor(self.plan.stored[name].name)
        return self.plan.constants.get(name)

    def _tensor(self, name: str) -> Tensor:
        prefix, _, part = name.rpartition(".")
        tensor = getattr(self.get_submodule(prefix), part)
        return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float32 else tensor

    def _take(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor: as a parameter if it is one of floats, else as a buffer."""
        prefix, _, part = name.rpartition(".")
        home = _home(self, prefix)
        if isinstance(home, Norm) and part in home._buffers:
            setattr(home, part, tensor)
        elif isinstance(home, Norm):
            setattr(home, part, nn.Parameter(tensor))
        elif tensor.is_floating_point():
            home.register_parameter(part, nn.Parameter(tensor))
        else:
            home.register_buffer(part, tensor)


def _together(given: list[Tensor | None]) -> list[Tensor | None]:
    """Return inputs of a step on one device: constants, and sizes that were worked out, are on the CPU."""
    there = next((x.device for x in given if x is not None and x.device != CPU), CPU)
    return given if there == CPU else [x if x is None else x.to(there) for x in given]


def _with_rows(step: Step) -> Step:
    """Return a Gemm whose weight has an output a row."""
    values = {**step.attributes.values, "transB": 1}
    return replace(step, attributes=replace(step.attributes, values=values))


def _norms(plan: Plan, tensors: Mapping[str, Tensor]) -> list[tuple[str, float, int]]:
    found = [
        (step.layer, float(step.attributes.get("epsilon", 1e-5)), len(tensors[f"{step.layer}.weight"]))
        for step in plan.steps
        if step.layer and f"{step.layer}.weight" in tensors
    ]
    for step in plan.steps:
        for within in step.within.values():
            found += _norms(within, tensors)
    return found


def _unsquashed(plan: Plan) -> tuple[str, ...]:
    made_by = {output: step for step in plan.steps for output in step.outputs}
    return tuple(
        step.inputs[0] if (step := made_by.get(name)) is not None and step.operator in SQUASHED else name
        for name in plan.outputs
    )


def _home(root: nn.Module, prefix: str) -> nn.Module:
    """Return the module of that name within another, with empty ones on the way where there are none."""
    for part in prefix.split(".") if prefix else ():
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root
