"""ONNX files: told from others, read with what lies beside them, written whole."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mess.errors import CheckpointError, OptionError, WeightsError
from mess.foreign.files import is_onnx
from mess.graphs.tensors import MAX_BYTES, Taken, take_out

if TYPE_CHECKING:
    import onnx

PACKAGES = ("onnx", "onnxruntime")
HEAD = 64  # bytes that tell


def is_onnx_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an ONNX model, by its name or how it begins; False where there is none."""
    try:
        with Path(path).open("rb") as file:
            return is_onnx(file.read(HEAD), os.fspath(path))
    except OSError:
        return False


def check_installed(where: object) -> None:
    """Raise OptionError where onnx or onnxruntime is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        found = f"no {' or '.join(missing)}"
        raise OptionError(where, "the packages onnx and onnxruntime", found, "pip install 'mess-cnn[onnx]'")


def read_taken(path: str | os.PathLike[str]) -> Taken:
    """Read a model, and numbers that lie in files beside it; return its graph and its tensors.

    Raises:
        CheckpointError: not there, damaged, or no ONNX model; files beside it that are not there.
        OptionError: onnx is not installed.
    """
    check_installed(path)
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise CheckpointError(path, "an ONNX model", "something else, or a damaged one") from error
    except OSError as error:
        raise CheckpointError(path, "a file", f"one that cannot be read ({error.strerror or error})") from error
    if not model.graph.node:
        raise CheckpointError(path, "an ONNX model", "one that computes nothing")
    try:
        onnx.external_data_helper.load_external_data_for_model(model, os.fspath(Path(path).resolve().parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        found = "numbers in another file that cannot be read"
        raise CheckpointError(path, "its numbers beside it, as it says", found, str(error).splitlines()[0]) from error
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
    taken = take_out(model)
    if not taken.tensors:
        raise WeightsError(path, "weights in the model", "none worth storing by themselves")
    return taken


def serialised(model: onnx.ModelProto, where: object) -> bytes:
    """Return a model's bytes.

    Raises:
        WeightsError: more than a protobuf can hold.
    """
    try:
        content = model.SerializeToString(deterministic=True)
    except ValueError as error:
        raise WeightsError(where, "at most 2 GiB of ONNX model", "more") from error
    if len(content) > MAX_BYTES:
        raise WeightsError(where, "at most 2 GiB of ONNX model", f"{len(content):,} bytes")
    return content
