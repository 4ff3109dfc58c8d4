"""Small ONNX models, made node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def random(*shape: int, seed: int = 0) -> np.ndarray:
    scale = 1 / np.sqrt(max(1, np.prod(shape[1:])))
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def initialiser(name: str, array: np.ndarray) -> Any:
    return numpy_helper.from_array(array, name)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], tensors: list[Any], opset: int = 13) -> Any:
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="others"
    )
    helper.set_model_props(made, {"author": "somebody", "labels": "cat,dog"})
    onnx.checker.check_model(made, full_check=True)
    return made


def classifier(batch: str | int = "n") -> Any:
    """Return a network with a folded convolution, one with BatchNorm, a product with a matrix, and a softmax."""
    tensors = [
        initialiser("stem.weight", random(40, 3, 3, 3)), initialiser("stem.bias", 0.1 * random(40, seed=1)),
        initialiser("conv", random(48, 40, 3, 3, seed=2)), initialiser("norm.scale", 1 + 0.1 * random(48, seed=3)),
        initialiser("norm.shift", 0.1 * random(48, seed=4)), initialiser("norm.mean", 0.1 * random(48, seed=5)),
        initialiser("norm.var", 0.5 + np.square(random(48, seed=6))), initialiser("head", random(48, 10, seed=7)),
        initialiser("head.bias", random(10, seed=8)),
    ]  # fmt: skip
    nodes = [
        node("Conv", "pictures stem.weight stem.bias", "a", pads=[1] * 4), node("Relu", "a", "b"),
        node("Conv", "b conv", "c", pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", "c norm.scale norm.shift norm.mean norm.var", "d", epsilon=1e-3),
        node("HardSwish", "d", "e"), node("GlobalAveragePool", "e", "f"), node("Flatten", "f", "g"),
        node("Gemm", "g head head.bias", "h"), node("Softmax", "h", "chances"),
    ]  # fmt: skip
    return model(nodes, [value("pictures", [batch, 3, 16, 16])], [value("chances", [batch, 10])], tensors, opset=14)


def answers(content: bytes, **feeds: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def without_numbers(made: Any) -> bytes:
    """Return a model with all numbers of its tensors left out: what must come back bit for bit."""
    bare = onnx.ModelProto.FromString(made if isinstance(made, bytes) else made.SerializeToString())
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
    return bare.SerializeToString(deterministic=True)
