"""Pictures decoded by worker processes, in a fixed order, with the corrupt ones counted and named."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mess.data.folder import ImageFolder
from mess.data.pictures import CorruptPictureError, load_picture
from mess.errors import DataError

CORRUPT_CAP = 20  # an epoch; more than these mean that the copy of the dataset is bad
WAIT_S = 300  # for one batch; a worker that hangs longer is an error, not a wait for ever
log = logging.getLogger("mess.data")

Decoded = tuple[Tensor, Tensor, list[str]]


class _Parts(Dataset[Decoded]):
    """Item b is the b-th batch of this process: one task a batch, so that workers hand over whole batches."""

    def __init__(self, folder: ImageFolder, parts: list[np.ndarray], seed: int, epoch: int) -> None:
        self.folder, self.parts, self.seed, self.epoch = folder, parts, seed, epoch

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, item: int) -> Decoded:
        images, labels, corrupt = [], [], []
        for index in self.parts[item]:
            try:
                images.append(load_picture(self.folder, int(index), seed=self.seed, epoch=self.epoch))
                labels.append(self.folder.labels_N[index])
            except CorruptPictureError as error:
                corrupt.append(str(error))
        side = self.folder.crop
        stacked = np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)
        return torch.from_numpy(stacked), torch.from_numpy(np.asarray(labels, dtype=np.int64)), corrupt


def decoded(
    folder: ImageFolder, parts: list[np.ndarray], *, seed: int, epoch: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images uint8, labels) of each part, in order.

    A corrupt picture is left out of training and warned of; in tests, where every picture counts, it is an error.

    Raises:
        DataError: a corrupt test picture, more corrupt training pictures than the cap, or a worker that died.
    """
    loader = DataLoader(
        _Parts(folder, parts, seed, epoch),
        batch_size=None,
        num_workers=min(workers, len(parts)),
        timeout=WAIT_S if workers else 0,
        prefetch_factor=2 if workers and parts else None,
    )
    bad: list[str] = []
    try:
        for images_NCHW, labels_N, corrupt in loader:
            for found in corrupt:
                bad.append(found)
                log.warning("left out a picture that cannot be decoded: %s", found)
            if len(bad) > (CORRUPT_CAP if folder.train else 0):
                named = "; ".join(bad[:3])
                raise DataError(folder.info.name, "pictures that can be decoded", f"{len(bad)} that cannot: {named}")
            yield images_NCHW, labels_N
    except RuntimeError as error:  # what DataLoader raises for a worker that was killed or hangs
        raise DataError(folder.info.name, "workers that decode pictures", str(error).splitlines()[0]) from error
