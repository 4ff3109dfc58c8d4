"""Datasets of any library, folders and lists of images, as batches of what a network takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mess.errors import DataError
from mess.files import files_in
from mess.image_inputs import ENDINGS, are_images, is_image

BATCH = 64  # samples
MAX_SAMPLES = 5 * 1024  # of them that are read
IN_ORDER = 1024  # samples that are all looked at, whatever their size: of more a draw comes, as they may lie by class
TENSORS = ("pixel_values", "inputs")  # columns that are as the network takes them, by the usage of `transformers`
LABELS = ("label", "labels", "fine_label")
EXPECTED = "a dataset of tensors of one shape, or of images, alone or with labels"
Cut = Callable[[Sequence[Any]], Tensor]  # makes of images what a network takes
Sample = tuple[Any, Any]  # an image or a tensor, and its label or None


def samples_of(given: Any) -> Iterable[Sample] | None:
    """Return pairs of (image or tensor, label or None); None: it is no dataset, folder or list of images.

    Raises:
        DataError: several splits, or samples in which there is neither.
    """
    if isinstance(given, str | os.PathLike):
        if not (found := files_in(Path(given), ENDINGS)):
            raise DataError(given, "a folder with images", "none in it")
        given = found
    if isinstance(given, DataLoader):
        return None if not isinstance(first := next(iter(given), None), Mapping) else _of_loader(given, first)
    if hasattr(given, "column_names"):
        return _of_table(given)
    if isinstance(given, Dataset):
        return (_pair(sample) for sample in _drawn(given))
    listed = isinstance(given, list | tuple) and bool(given) and is_image(given[0])
    if listed or (isinstance(given, np.ndarray) and are_images(given)):
        return [(image, None) for image in _drawn(given)]
    return None


def batches_of(samples: Iterable[Sample], cut: Callable[[], Cut]) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of inputs, or of (inputs, labels); `cut` is asked for only where there are images.

    Raises:
        DataError: samples that are neither images nor tensors of one shape.
        OptionError: images of which nothing says how the network takes them.
    """
    remaining = iter(samples)
    how: Cut | None = None
    while batch := list(islice(remaining, BATCH)):
        try:
            if is_image(batch[0][0]):
                how = how or cut()
                inputs = how([sample for sample, _ in batch])
            else:
                inputs = torch.stack([torch.as_tensor(sample) for sample, _ in batch])
        except (TypeError, RuntimeError, ValueError) as error:
            raise DataError("calibration", EXPECTED, error) from error
        yield (inputs, *_numbers([label for _, label in batch]))


def _numbers(labels: Sequence[Any]) -> list[Tensor]:
    """Return labels as one tensor, or none: boxes and words say nothing here, and are not missed."""
    try:
        return [torch.tensor([int(label) for label in labels])]
    except (TypeError, ValueError):
        return []


def _drawn(given: Any) -> Iterator[Any]:
    """Yield samples: all of few; of more than fit a look a draw without returning, the same each time."""
    count = _length(given)
    if count is None:
        yield from islice(iter(given), MAX_SAMPLES)
        return
    order: Sequence[int] = range(count)
    if count > IN_ORDER:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:MAX_SAMPLES].tolist()
    for place in order:
        yield given[place]


def _length(given: Any) -> int | None:
    """Return how many samples there are at places; None: a stream, which may have a length all the same."""
    try:
        return None if isinstance(given, IterableDataset) else len(given)
    except TypeError:
        return None


def _pair(sample: Any) -> Sample:
    if isinstance(sample, Mapping):
        return _chosen(sample, *_columns(sample))
    pair = sample if isinstance(sample, tuple | list) else (sample,)
    return (pair[0], pair[1] if len(pair) > 1 else None) if pair else (None, None)


def _of_table(table: Any) -> Iterator[Sample]:
    """Yield samples of a split of the Hugging Face library, in memory or a stream."""
    if isinstance(table, Mapping):
        raise DataError("calibration", "one split of it", f"several: {', '.join(map(str, table))}")
    rows = _drawn(table)
    first = next(rows, None)
    if not isinstance(first, Mapping):
        raise DataError("calibration", EXPECTED, "no rows")
    columns = _columns(first)
    return (_chosen(row, *columns) for row in chain([first], rows))


def _of_loader(loader: Iterable[Mapping[str, Any]], first: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield samples of a loader whose batches are mappings, as the Hugging Face library's collators make them."""
    inputs, labels = _columns({name: values[0] for name, values in first.items() if len(values)})
    for batch in loader:
        known = [None] * len(batch[inputs]) if labels is None else batch[labels]
        yield from zip(batch[inputs], known, strict=True)


def _chosen(row: Mapping[str, Any], inputs: str, labels: str | None) -> Sample:
    return row[inputs], None if labels is None else row[labels]


def _columns(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the columns of inputs and of labels."""
    labels = next((name for name in LABELS if name in row), None)
    for name in (*(name for name in TENSORS if name in row), *row):
        # text may be a path, but names no image here
        if name in TENSORS or (is_image(row[name]) and not isinstance(row[name], str)):
            return name, labels
    raise DataError("calibration", f"a column of images, or one of {', '.join(TENSORS)}", f"{', '.join(row)}")
