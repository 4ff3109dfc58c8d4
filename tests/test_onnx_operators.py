"""What operators do in torch is what onnxruntime does: one node at a time, old and new opsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mess.graphs.network import GraphNetwork
from mess.graphs.operators import OPERATORS, UnknownError
from onnx_networks import TensorProto, answers, helper, initialiser, node, onnx, random

X = random(2, 4, 9, 7) * 20
INTEGERS = {
    "index": np.array([2, -1, 0]),
    "shape": np.array([2, -1, 7]),
    "axes": np.array([1]),
    "two": np.array([1, 3]),
}
# operator, attributes, inputs beside x, opset
CASES: list[tuple[str, dict[str, Any], list[np.ndarray], int]] = [
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [], 13),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}, [], 13),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, [], 11),
    ("BatchNormalization", {"epsilon": 0.01}, [random(4), random(4), random(4), random(4) ** 2 + 0.1], 9),
    ("Clip", {"min": -1.0, "max": 2.0}, [], 9),
    ("Clip", {}, [np.float32(-1), np.float32(2)], 13),
    ("Conv", {"pads": [1, 2, 0, 1], "strides": [2, 1]}, [random(6, 4, 3, 3), random(6)], 13),
    ("Conv", {"group": 4, "strides": [2, 2], "auto_pad": "SAME_LOWER"}, [random(8, 1, 3, 3)], 13),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 0, 1, 1], "group": 2}, [random(4, 3, 3, 3), random(6)], 13),
    ("DepthToSpace", {"blocksize": 2}, [], 13),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [], 13),
    ("Flatten", {"axis": 2}, [], 13),
    ("Gather", {"axis": 2}, [INTEGERS["index"]], 13),
    ("GlobalAveragePool", {}, [], 13),
    ("HardSigmoid", {"alpha": 0.25}, [], 13),
    ("HardSwish", {}, [], 14),
    ("InstanceNormalization", {}, [random(4), random(4)], 13),
    ("LRN", {"size": 3}, [], 13),
    ("LayerNormalization", {"axis": -2}, [random(9, 7), random(9, 7)], 17),
    ("LeakyRelu", {}, [], 13),
    ("LogSoftmax", {"axis": 1}, [], 11),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, [], 12),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1]}, [], 12),
    ("PRelu", {}, [random(4, 1, 1)], 13),
    ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}, [], 9),
    ("Pad", {}, [np.array([0, 1, 1, 2, 0, 0, 0, 1]), np.float32(3)], 13),
    ("Pad", {"mode": "edge"}, [np.array([0, 0, 1, 2, 0, 0, 0, 1])], 13),
    ("ReduceMean", {"axes": [2, 3]}, [], 13),
    ("ReduceMean", {"keepdims": 0}, [np.array([-1])], 18),
    ("ReduceSum", {}, [np.array([1, 2])], 13),
    ("Reshape", {}, [np.array([0, -1, 7])], 13),
    ("Resize", {"mode": "nearest"}, [np.array([1, 1, 2, 2], np.float32)], 10),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
     [np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([2, 4, 18, 11])], 13),
    ("Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
     [np.zeros(0, np.float32), np.array([1, 1, 2, 3], np.float32)], 13),
    ("Slice", {"starts": [1, 0], "ends": [4, -2], "axes": [1, 3]}, [], 9),
    ("Slice", {}, [np.array([-1]), np.array([-100]), np.array([2]), np.array([-2])], 13),
    ("Softmax", {"axis": 1}, [], 11),
    ("Softmax", {"axis": 1}, [], 13),
    ("SpaceToDepth", {"blocksize": 1}, [], 13),
    ("Split", {"axis": 1, "split": [1, 3]}, [], 11),
    ("Split", {"axis": 1}, [INTEGERS["two"]], 13),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [], 13),
    ("Unsqueeze", {"axes": [1, -1]}, [], 11),
    ("Upsample", {"mode": "nearest"}, [np.array([1, 1, 2, 2], np.float32)], 9),
]  # fmt: skip
RECURRENT = {
    "LSTM": [random(1, 24, 7), random(1, 24, 6), random(1, 48)],
    "GRU": [random(2, 18, 7), random(2, 18, 6), random(2, 36)],
}


def single(
    kind: str, attributes: dict[str, Any], x: np.ndarray, others: list[np.ndarray], opset: int, outputs: int = 1
) -> bytes:
    names = [f"i{n}" for n in range(len(others))]
    tensors = [initialiser(name, np.asarray(array)) for name, array in zip(names, others, strict=True)]
    made = [f"y{n}" for n in range(outputs)]
    graph = helper.make_graph(
        [node(kind, " ".join(["x", *names]), " ".join(made), **attributes)], "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made], tensors,
    )  # fmt: skip
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return built.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "attributes", "others", "opset"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_an_operator_answers_as_onnxruntime(kind: str, attributes: dict, others: list, opset: int) -> None:
    content = single(kind, attributes, X, others, opset, outputs=2 if kind == "Split" else 1)
    wanted = answers(content, x=X)
    found = GraphNetwork(content, {}).outputs(torch.from_numpy(X))
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert tuple(a.shape) == b.shape
        assert np.allclose(a.numpy(), b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers_answer_as_onnxruntime(kind: str) -> None:
    x, directions = random(5, 2, 7), len(RECURRENT[kind][0])
    attributes = {"hidden_size": 6, "direction": "bidirectional" if directions == 2 else "forward"}
    content = single(kind, {**attributes, **({"linear_before_reset": 1} if kind == "GRU" else {})}, x, [], 14)
    made = onnx.ModelProto.FromString(content)
    made.graph.node[0].input.extend(["w", "r", "b"])
    made.graph.initializer.extend(initialiser(n, a) for n, a in zip("wrb", RECURRENT[kind], strict=True))
    content = made.SerializeToString()
    (wanted,) = answers(content, x=x)
    assert np.allclose(GraphNetwork(content, {}).outputs(torch.from_numpy(x))[0].numpy(), wanted, atol=1e-5)


def test_unary_operators_answer_as_onnxruntime() -> None:
    x = np.linspace(0.1, 0.9, 40, dtype=np.float32).reshape(2, 4, 5, 1)
    kinds = [
        "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Identity", "Log", "Neg", "Reciprocal", "Relu", "Round",
        "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
        "Celu", "Mish",
    ]  # fmt: skip
    for kind in kinds:
        content = single(kind, {}, x, [], 18)
        found = GraphNetwork(content, {}).outputs(torch.from_numpy(x))[0].numpy()
        assert np.allclose(found, answers(content, x=x)[0], atol=1e-5), kind
    assert set(kinds) <= OPERATORS.keys()


@pytest.mark.parametrize(
    ("kind", "attributes"), [("MaxPool", {"kernel_shape": [2, 2]}), ("Resize", {"mode": "linear"}), ("Scan", {})]
)
def test_a_use_that_is_not_known_is_said_not_guessed(kind: str, attributes: dict) -> None:
    others = [np.zeros(0, np.float32), np.array([1, 1, 0.7, 0.7], np.float32)] if kind == "Resize" else []
    content = single(kind, attributes, X, others, 13, outputs=2 if kind == "MaxPool" else 1)
    with pytest.raises(UnknownError, match=kind):
        GraphNetwork(content, {}).outputs(torch.from_numpy(X))
