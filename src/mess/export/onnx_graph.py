"""The ONNX model of a file that came as one: its graph with the stored tensors in it; no torch."""

from __future__ import annotations

from pathlib import Path

from mess import codec
from mess.files import atomic_write
from mess.graphs.model_files import serialised
from mess.graphs.tensors import put_back


def write_graph(path: object, stored: codec.StoredModel, output: Path) -> tuple[str, ...]:
    """Write the model of a file with a graph; see `mess.export.export`.

    Raises:
        FormatError: a graph that asks for tensors which the file does not have.
        WeightsError: more than 2 GiB.
    """
    arrays = {name: array for name, (array, _) in codec.reconstruct(stored).items()}
    model = put_back(stored.graph or b"", arrays, str(path))
    atomic_write(output, serialised(model, output))
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = ", ".join(i.name for i in model.graph.input if i.name not in held)
    outputs = ", ".join(o.name for o in model.graph.output)
    return (f"opset {opset}, {inputs} to {outputs}: the model that was stored, with its names and metadata",)
