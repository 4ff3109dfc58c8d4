"""The tensors of an ONNX model, taken out of it and put back: what is left is the graph (FORMAT.md, clause 12).

::

    model.onnx ─ take_out ─► graph (protobuf, a tensor that is taken out says only its name) and tensors by name
                put_back ◄─

A tensor is taken out if it is worth it and numbers of its kind can be coded; all others stay in the graph, bit for bit:
shapes, limits, steps of quantised models, strings, masks of infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mess.errors import FormatError, WeightsError
from mess.graphs.state_names import StateNames

if TYPE_CHECKING:
    import onnx

    Uses = dict[str, list[tuple[str, int, onnx.NodeProto | None]]]  # value → (operator, place among its inputs, node)

SMALL = 32  # numbers, up to which a tensor costs less in the graph
MAX_BYTES = (1 << 31) - 1  # bytes of a protobuf
# Operators whose float inputs are no weights: they must come back bit for bit.
EXACT = frozenset({
    "Clip", "ConstantOfShape", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat", "NonMaxSuppression", "Pad", "QLinearAdd", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "Range", "Resize", "Upsample",
})  # fmt: skip
NORM_PARTS = {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}  # by input of BatchNormalization
LOCATION, ORDER, TRANSPOSED = "location", "order", "transposed"


@dataclass(frozen=True)
class Taken:
    """A model in two parts.

    Attributes:
        graph: the model without the tensors that were taken out, as protobuf.
        tensors: by the name that the graph says; bfloat16 as uint16 under "bfloat16" in `dtypes`.
        dtypes: by name, as torch calls them.
    """

    graph: bytes
    tensors: dict[str, np.ndarray]
    dtypes: dict[str, str]


def take_out(model: onnx.ModelProto) -> Taken:
    """Take the tensors out of a model, which is changed.

    Raises:
        WeightsError: a tensor whose numbers are not there.
    """
    from onnx import external_data_helper, numpy_helper

    dtypes_of = _dtypes()
    uses, names = used_by(model.graph), StateNames()
    held = list(each_held(model.graph))
    norms = _norms(model.graph, {value: tensor for tensor, value in held}, uses)
    tensors: dict[str, np.ndarray] = {}
    dtypes: dict[str, str] = {}
    renamed: dict[str, str] = {}  # prefix that was wished for → the one that was free
    for tensor, value in held:
        if external_data_helper.uses_external_data(tensor):
            raise WeightsError(value, "numbers in the model or beside it", "none that could be read")
        dtype = dtypes_of.get(tensor.data_type)
        if dtype is None or not _worth_it(tensor, dtype, [operator for operator, _, _ in uses.get(value, ())]):
            continue
        try:
            array = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise WeightsError(value, f"{math.prod(tensor.dims):,} numbers", f"others ({error})") from error
        if dtype == "bfloat16":
            array = array.view(np.uint16)
        elif dtype.startswith("float") and not np.isfinite(array).all():
            continue
        if value in norms:
            prefix, part = norms[value]
            if prefix not in renamed:
                renamed[prefix] = names.free_layer(prefix, NORM_PARTS.values())
            name = f"{renamed[prefix]}.{part}"
        else:
            name = names.free(value)
        transposed = array.ndim == 2 and _only_multiplied_from_the_right(uses.get(value, ()))
        tensors[name] = np.array(array.T if transposed else array, order="C")
        dtypes[name] = dtype
        _empty(tensor, name, transposed)
    return Taken(model.SerializeToString(deterministic=True), tensors, dtypes)


def put_back(graph: bytes, tensors: Mapping[str, np.ndarray], where: str) -> onnx.ModelProto:
    """Return the model of a graph and its tensors.

    Args:
        tensors: by name; bfloat16 as uint16.
        where: the file, for errors.

    Raises:
        FormatError: no graph, or one that asks for what the file does not have.
    """
    from onnx import TensorProto

    model = read_graph(graph, where)
    for tensor in each_tensor(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        name, transposed = stored_as(tensor, where)
        if name not in tensors:
            raise FormatError(where, f"the tensor {name[:80]!r} that its graph asks for", "none of that name")
        array = tensors[name].T if transposed else tensors[name]
        if tuple(array.shape) != tuple(tensor.dims):
            raise FormatError(f"{where}: {name[:80]}", f"shape {tuple(tensor.dims)}, as its graph says", array.shape)
        if array.dtype.itemsize * 8 != _bits(tensor):
            raise FormatError(f"{where}: {name[:80]}", "numbers of the kind that its graph says", array.dtype)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return model


def read_graph(graph: bytes, where: str) -> onnx.ModelProto:
    """Return a graph as a model that has no tensors yet.

    Raises:
        FormatError: something else.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph)
    except DecodeError as error:
        raise FormatError(f"{where}: graph", "an ONNX model", "something else") from error
    return model


def stored_as(tensor: onnx.TensorProto, where: str) -> tuple[str, bool]:
    """Return the name under which a file has a tensor that was taken out, and whether it lies there transposed.

    Raises:
        FormatError: other words than a writer's, so that nothing in a file can name another file.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    order = said.pop(ORDER, "")
    if set(said) != {LOCATION} or order not in ("", TRANSPOSED) or (order and len(tensor.dims) != 2):
        raise FormatError(f"{where}: graph", "tensors that say where in the file they are", str(said)[:80])
    return said[LOCATION], order == TRANSPOSED


def each_held(graph: onnx.GraphProto) -> Iterator[tuple[onnx.TensorProto, str]]:
    """Yield (tensor, name of the value it is) of initialisers and constants, those of graphs within it too."""
    for tensor in graph.initializer:
        yield tensor, tensor.name
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and attribute.HasField("t"):
                yield attribute.t, node.output[0]
        for within in graphs_of(node):
            yield from each_held(within)


def graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs within a node: branches and bodies."""
    return [g for a in node.attribute for g in [*([a.g] if a.HasField("g") else []), *a.graphs]]


def each_tensor(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield every tensor anywhere in a message: none may be overlooked that names a place outside the file."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for described, value in message.ListFields():
        if described.message_type is None:
            continue
        for each in value if not hasattr(value, "ListFields") else (value,):
            if hasattr(each, "ListFields"):
                yield from each_tensor(each)


def used_by(graph: onnx.GraphProto) -> Uses:
    """Return what each value is used by, in the graph and in those within it; "" stands for being an output."""
    found: Uses = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            found.setdefault(name, []).append((node.op_type, place, node))
        for within in graphs_of(node):
            for name, users in used_by(within).items():
                found.setdefault(name, []).extend(users)
    for output in graph.output:
        found.setdefault(output.name, []).append(("", 0, None))
    return found


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or `default`."""
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _worth_it(tensor: onnx.TensorProto, dtype: str, operators: list[str]) -> bool:
    if math.prod(tensor.dims) <= SMALL or len(tensor.dims) > 8:
        return False
    return not dtype.startswith(("float", "bfloat")) or EXACT.isdisjoint(operators)


def _only_multiplied_from_the_right(users: Any) -> bool:
    """Whether a matrix is nothing but the right side of products, so that its columns are the outputs."""
    return bool(users) and all(
        place == 1 and (op == "MatMul" or (op == "Gemm" and not attribute(node, "transB", 0)))
        for op, place, node in users
    )


def _norms(graph: onnx.GraphProto, held: Mapping[str, onnx.TensorProto], uses: Uses) -> dict[str, tuple[str, str]]:
    """Return (layer, part) of each tensor of a BatchNorm layer that shares nothing with others, by value."""
    from onnx import TensorProto

    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        values = list(node.input[1:5])
        if node.op_type != "BatchNormalization" or len({*values} & held.keys()) != len(NORM_PARTS):
            continue
        plain = all(held[v].data_type == TensorProto.FLOAT and len(uses[v]) == 1 for v in values)
        if not plain or math.prod(held[values[0]].dims) <= SMALL or attribute(node, "training_mode", 0):
            continue
        prefix = node.name or values[0].rpartition(".")[0] or values[0]
        found |= {
            value: (f"{prefix}#{values[0]}", part) for value, part in zip(values, NORM_PARTS.values(), strict=True)
        }
    return found


def _empty(tensor: onnx.TensorProto, name: str, transposed: bool) -> None:
    """Leave only what a tensor is, and the name that its numbers have in the file."""
    from onnx import TensorProto

    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key=LOCATION, value=name)
    if transposed:
        tensor.external_data.add(key=ORDER, value=TRANSPOSED)


def _dtypes() -> dict[int, str]:
    """Return ONNX's numbers of the dtypes that a file can hold, as torch calls them."""
    from onnx import TensorProto as T

    return {
        T.FLOAT: "float32", T.FLOAT16: "float16", T.BFLOAT16: "bfloat16", T.DOUBLE: "float64", T.INT64: "int64",
        T.INT32: "int32", T.INT16: "int16", T.INT8: "int8", T.UINT8: "uint8", T.BOOL: "bool",
    }  # fmt: skip


def _bits(tensor: onnx.TensorProto) -> int:
    dtype = _dtypes().get(tensor.data_type, "")
    return 8 if dtype == "bool" else int("".join(c for c in dtype if c.isdigit()) or 0)
