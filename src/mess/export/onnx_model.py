"""A network of the zoo as an ONNX model, which is written only if onnxruntime answers as PyTorch does.

PyTorch's TorchScript exporter makes it: it needs no package besides, and takes two seconds where the newer one takes
twenty and `onnxscript`. It is deprecated, not broken; where it goes away, `dynamo=True` makes the same model.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import mess.storing
from mess import codec
from mess.errors import WeightsError
from mess.export.about import facts_of
from mess.export.onnx_graph import write_graph
from mess.files import atomic_write
from mess.graphs.model_files import check_installed
from mess.models.described import layout_of

OPSET = 17  # of ONNX 1.12 (2022), which onnxruntime reads from 1.12 on
TOLERANCE = 1e-4  # largest difference, as a share of the largest output
BATCHES = (1, 3)  # what is compared: the number of images may be any
INPUT, OUTPUT, BATCH = "images", "logits", "batch"


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file's network; see `mess.export.export`.

    Raises:
        OptionError: onnx or onnxruntime is not installed.
        WeightsError: not a network of the zoo, or onnxruntime's outputs are not PyTorch's.
    """
    check_installed(output)
    stored = codec.read_model(path, layout=layout_of, names=[])
    if stored.graph is not None:
        return write_graph(path, codec.read_model(path, layout=layout_of), output)
    if stored.network is None:
        raise WeightsError(path, "a network of the zoo, whose layers MESS knows", "weights of another network")
    facts = facts_of(stored.network, stored.scheme)
    model = mess.storing.load(path)
    images_NCHW = _images(facts["image_size"])
    content = _described(_exported(model, images_NCHW), facts)
    difference = _difference(content, model, images_NCHW, output)
    atomic_write(output, content)
    return (
        f"opset {OPSET}, any batch size, outputs within {difference:.0e} of PyTorch's (tolerance {TOLERANCE:.0e})",
        f"input: {facts['input']}; mean and std are in the metadata",
    )


def _images(side: int) -> torch.Tensor:
    return torch.randn(sum(BATCHES), 3, side, side, generator=torch.Generator().manual_seed(0))


def _exported(model: nn.Module, images_NCHW: torch.Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter itself
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # it cannot fold ResNet's x[:, :, ::2, ::2]
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            model,
            (images_NCHW[:2],),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
        )
        return path.read_bytes()


def _described(content: bytes, facts: dict[str, Any]) -> bytes:
    """Return the model with what its input is, checked against ONNX's rules."""
    import onnx

    model = onnx.load_from_string(content)
    model.producer_name, model.producer_version = facts["producer"].split()
    model.doc_string = "Stored by MESS and decoded again. Input: " + facts["input"]
    onnx.helper.set_model_props(
        model, {f"mess.{name}": x if isinstance(x, str) else json.dumps(x) for name, x in facts.items()}
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _difference(content: bytes, model: nn.Module, images_NCHW: torch.Tensor, output: Path) -> float:
    """Return the largest difference of outputs as a share of the largest output.

    Raises:
        WeightsError: it is above `TOLERANCE`, or an output is not finite.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for images in images_NCHW.split(BATCHES):
        with torch.inference_mode():
            expected = model(images).numpy()
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        share = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not share <= TOLERANCE:
            raise WeightsError(
                output,
                f"outputs of onnxruntime within {TOLERANCE:.0e} of PyTorch's",
                f"{share:.1e}",
                "none was written",
            )
        largest = max(largest, share)
    return largest
