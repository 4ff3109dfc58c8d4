"""Images decoded by worker processes, in a fixed order, with the corrupt ones counted and named."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mess.data.decode import CorruptImageError
from mess.data.folder import ImageFolder
from mess.data.views import load_image
from mess.errors import DataError

CORRUPT_CAP = 20  # an epoch; more than these mean that the copy of the dataset is bad
WAIT_S = 300  # for one batch; a worker that hangs longer is an error, not a wait for ever
log = logging.getLogger("mess.data")

DecodedBatch = tuple[Tensor, Tensor, list[str]]


class _Parts(Dataset[DecodedBatch]):
    """Item (epoch, samples, samples that only fill up) is a batch: workers hand over whole batches."""

    def __init__(self, folder: ImageFolder, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def __getitem__(self, item: tuple[int, np.ndarray, np.ndarray]) -> DecodedBatch:
        epoch, own_N, more_N = item
        side = self.folder.crop
        images_NCHW = torch.empty((len(own_N) + len(more_N), 3, side, side), dtype=torch.uint8)
        count, good, corrupt = 0, [], []
        for place, index in enumerate([*own_N, *more_N]):
            try:
                images_NCHW[count] = load_image(self.folder, int(index), seed=self.seed, epoch=epoch)
                count += 1
                if place < len(own_N):
                    good.append(index)
            except CorruptImageError as error:
                corrupt.append(str(error))
        return images_NCHW[:count], torch.from_numpy(self.folder.labels_N[np.array(good, dtype=np.int64)]), corrupt


class ImageDecoder:
    """Batches of decoded images; the workers that decode them live as long as this object.

    Args:
        workers: processes; no more are started than there are cores for, since decoding keeps a core busy.
        smallest: images that a part of a batch has to have.
        processes_here: that have such an object, on this machine: they share its cores.
        pinned: hand batches over in memory that a GPU copies from while other things go on.
    """

    def __init__(
        self,
        folder: ImageFolder,
        *,
        seed: int,
        workers: int,
        smallest: int,
        processes_here: int = 1,
        pinned: bool = False,
    ) -> None:
        self.folder, self.smallest = folder, smallest
        self._order: list[tuple[int, np.ndarray, np.ndarray]] = []
        workers = min(workers, max(1, usable_cores() // processes_here))
        self._loader = DataLoader(
            _Parts(folder, seed),
            batch_size=None,
            sampler=self._order,  # read anew for each epoch
            num_workers=workers,
            persistent_workers=workers > 0,
            timeout=WAIT_S if workers else 0,
            prefetch_factor=2 if workers else None,
            pin_memory=pinned,
        )

    def decoded(self, parts: list[tuple[np.ndarray, np.ndarray]], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images uint8, labels) of each part, (its samples, those that fill it up), in order.

        A corrupt image is left out of training and warned of; in tests, where every image counts, it is an error.

        Raises:
            DataError: a corrupt test image, more corrupt training images than the cap or so many that a part has
                too few left, or a worker that died.
        """
        self._order[:] = [(epoch, *part) for part in parts]
        bad: list[str] = []
        try:
            for images_NCHW, labels_N, corrupt in self._loader:
                for found in corrupt:
                    bad.append(found)
                    log.warning("left out an image that cannot be decoded: %s", found)
                too_few = corrupt and len(images_NCHW) < self.smallest
                if too_few or len(bad) > (CORRUPT_CAP if self.folder.train else 0):
                    named = "; ".join(bad[:3])
                    raise DataError(
                        self.folder.info.name, "images that can be decoded", f"{len(bad)} that cannot: {named}"
                    )
                yield images_NCHW, labels_N
        except RuntimeError as error:  # what DataLoader raises for a worker that was killed or hangs
            what = str(error).splitlines()[0]
            raise DataError(self.folder.info.name, "workers that decode images", what) from error


def usable_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
