"""What v4 looks at: arrays in files, datasets and images as batches, images for a network that comes as ONNX."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mess.errors import DataError
from mess.graphs.network import GraphNetwork
from mess.image_inputs import are_images, input_view
from mess.models import Architecture
from mess.storing.graph_inputs import possible_shapes
from mess.storing.made_up import shaped
from mess.storing.network import identify
from mess.storing.samples import Cut, batches_of, samples_of

Calibration = Iterable[Any] | Tensor | np.ndarray | Dataset[Any] | str | os.PathLike[str] | None


def read_arrays(path: str | os.PathLike[str]) -> Tensor:
    """Read inputs as the network takes them from ``.npy``, or the first array of ``.npz``; no pickles.

    Raises:
        DataError: not there, damaged, or no numbers with inputs along the first axis.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - NumPy wants to know where arrays begin
            read = np.load(file, allow_pickle=False)
            array = read if isinstance(read, np.ndarray) else read[read.files[0]] if read.files else None
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(path, "inputs in .npy or .npz", f"a file that cannot be read ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(_numbers(array, path), dtype=np.float32))


def _numbers(array: np.ndarray | None, where: object) -> np.ndarray:
    if array is None or array.dtype.kind not in "fiub" or array.ndim < 2:
        found = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise DataError(where, "numbers, with inputs along the first axis", found)
    if array.dtype == np.uint8 and array.ndim == 4:
        expected = "floats as the network takes them, or images (N, height, width, 3) of uint8, which are normalised"
        raise DataError(where, expected, f"uint8 of shape {array.shape}")
    return array


def as_inputs(given: Any, cut: Callable[[], Cut] | None = None) -> Iterable[Any] | Tensor | None:
    """Return inputs as v4 gathers them: tensors and batches as they are, arrays as tensors, all else in batches.

    Args:
        given: see `mess.compress`.
        cut: says how images are cut and normalised; asked only where there are some.

    Raises:
        DataError: a file or an array without numbers, a dataset whose samples are neither images nor tensors of one
            shape.
        OptionError: images of which nothing says how the network takes them.
    """
    if isinstance(given, str | os.PathLike) and not Path(given).is_dir():
        return read_arrays(given)
    if isinstance(given, np.ndarray) and not are_images(given):
        return torch.from_numpy(np.ascontiguousarray(_numbers(given, "calibration"), dtype=np.float32))
    samples = samples_of(given)
    return given if samples is None else batches_of(samples, cut or (lambda: input_view({}, None).of))


def cut_for(
    network: nn.Module | Mapping[str, Tensor],
    architecture: Architecture | None,
    facts: Mapping[str, Any],
    shape: tuple[int, ...] | None,
) -> Cut:
    """Return what makes of images the inputs of a network: as facts say, else as its dataset's are.

    Args:
        architecture: the network of the zoo that it is; found out where possible if None.
        shape: of one input; None: as a network that comes as ONNX says, of any other as facts or its dataset do.

    Raises:
        OptionError: nothing says how.
    """
    wanted, known = _shape(network, shape), architecture or identify(network).architecture
    view = input_view(facts, known.dataset if known else None, side=max(wanted) if wanted else None)
    return view.of if wanted is None else lambda images: shaped(view.of(images), wanted)


def side_of(network: object, shape: tuple[int, ...] | None) -> int | None:
    """Return the side of images that inputs of a shape are cut out of; None: no shape is known, or of no image."""
    wanted = _shape(network, shape)
    return None if wanted is None else max(wanted)


def taken_by(
    network: object, shape: tuple[int, ...] | None, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images in the shape that a network takes; where none is known as they are."""
    wanted = _shape(network, shape)
    for images, labels in batches:
        yield (images if wanted is None else shaped(images, wanted)), labels


def _shape(network: object, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if shape is None and isinstance(network, GraphNetwork) and network.plan.inputs:
        shape = next(possible_shapes(network.plan.inputs[0]), None)
    return shape if shape is not None and len(shape) == 3 else None
