"""What v4 looks at, in the forms people have it in: arrays in files, pictures for a network that comes as ONNX."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mess.errors import DataError
from mess.graphs.network import GraphNetwork
from mess.storing.graph_inputs import possible_shapes, shaped

Calibration = Iterable[Any] | Tensor | np.ndarray | Dataset[Any] | str | os.PathLike[str] | None
BATCH = 64  # samples of a dataset
MOST = 5 * 1024  # of them that are read


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
    return torch.from_numpy(np.ascontiguousarray(_numbers(array, path), dtype=np.float32))


def _numbers(array: np.ndarray | None, where: object) -> np.ndarray:
    if array is None or array.dtype.kind not in "fiub" or array.ndim < 2:
        found = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise DataError(where, "numbers, with inputs along the first axis", found)
    return array


def as_inputs(given: Any) -> Iterable[Any] | Tensor | None:
    """Return inputs as v4 gathers them: tensors and loaders as they are, arrays as tensors, datasets in batches.

    Raises:
        DataError: a file or an array without numbers, a dataset whose samples are no tensors of one shape.
    """
    if isinstance(given, str | os.PathLike):
        return read_arrays(given)
    if isinstance(given, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(_numbers(given, "calibration"), dtype=np.float32))
    return _batches(given) if isinstance(given, Dataset) else given


def _batches(dataset: Dataset[Any]) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of a dataset of tensors, or of (tensor, label), evenly from all of it: it may lie by class."""
    count = len(dataset)  # type: ignore[arg-type]
    every = max(1, count // MOST)
    for start in range(0, count, every * BATCH):
        samples = [dataset[n] for n in range(start, min(start + every * BATCH, count), every)]
        pairs = [sample if isinstance(sample, tuple | list) else (sample,) for sample in samples]
        try:
            inputs = torch.stack([pair[0] for pair in pairs])
            labels = [torch.tensor([int(pair[1]) for pair in pairs])] if len(pairs[0]) > 1 else []
        except (TypeError, RuntimeError, ValueError, IndexError) as error:
            raise DataError("calibration", "a dataset of tensors of one shape, or of (tensor, label)", error) from error
        yield (inputs, *labels)


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
