"""What v4 looks at, in the forms people have it in: arrays in files, pictures for a network that comes as ONNX."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from mess.errors import DataError
from mess.graphs.network import GraphNetwork
from mess.storing.graph_inputs import possible_shapes, shaped


def read_arrays(path: str | os.PathLike[str]) -> Tensor:
    """Read inputs as the network takes them from ``.npy``, or the first array of ``.npz``; no pickles.

    Raises:
        DataError: not there, damaged, or no numbers with inputs along the first axis.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - NumPy wants to know where arrays begin
            read = np.load(file, allow_pickle=False)
            array = read if isinstance(read, np.ndarray) else read[read.files[0]] if read.files else None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(path, "inputs in .npy or .npz", f"a file that cannot be read ({error})") from error
    if array is None or array.dtype.kind not in "fiub" or array.ndim < 2:
        found = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise DataError(path, "numbers, with inputs along the first axis", found)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def side_of(network: object, shape: tuple[int, ...] | None) -> int | None:
    """Return the side of pictures that inputs of a network which comes as ONNX are cut out of; None: any other."""
    wanted = _shape(network, shape)
    return None if wanted is None else max(wanted)


def taken_by(
    network: object, shape: tuple[int, ...] | None, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of pictures as a network that comes as ONNX takes them; for any other as they are."""
    wanted = _shape(network, shape)
    for pictures, labels in batches:
        yield (pictures if wanted is None else shaped(pictures, wanted)), labels


def _shape(network: object, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if not isinstance(network, GraphNetwork) or not network.plan.inputs:
        return None
    found = shape or next(possible_shapes(network.plan.inputs[0]), None)
    return found if found is not None and len(found) == 3 else None
