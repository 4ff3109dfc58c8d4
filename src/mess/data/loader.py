"""`Batches`: the images of an epoch, cut into global batches of which each process takes its slice.

The order of an epoch and the crop of a sample are functions of (seed, epoch, sample), never of who asks for them: any
number of processes and workers sees the same samples with the same crops, and resuming is a slice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mess.data import stateless
from mess.data.folder import ImageFolder
from mess.data.info import ImageSet
from mess.data.workers import ImageDecoder
from mess.errors import DataError, OptionError

NEEDED = 2  # images that a process trains on at once: BatchNorm cannot do with one
PIECE = 1 << 18  # numbers that are normalised at a time


class Batches:
    """One split as batches on a device.

    Args:
        dataset: images in memory or on disk.
        batch_size: samples of a global batch, over all processes.
        train: shuffled, cropped and mirrored by chance; else in order and unchanged.
        shuffled: in the order of `seed`, or as the dataset has them; None: as `train` says.
        seed: of order and crops.
        device: where batches go; sets in memory live there as uint8.
        rank, world_size: which slice of each global batch this process takes.
        workers: processes that decode images; sets in memory need none.
        processes_here: on this machine; its cores are shared out among their workers.
        channels_last: lay images out in NHWC order.
        smallest: images that a process has to see at once in training: 2, since BatchNorm cannot do with one, or 0
            where its statistics are those of all processes. A part that has fewer is filled up, see `epoch`.

    Raises:
        OptionError: a batch that gives some process less than it needs.
        DataError: a training set of one image.
    """

    def __init__(
        self,
        dataset: ImageSet | ImageFolder,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        processes_here: int = 1,
        channels_last: bool = False,
        smallest: int = NEEDED,
        shuffled: bool | None = None,
    ) -> None:
        if batch_size < 1 or (train and batch_size < NEEDED * world_size):
            raise OptionError("--batch-size", f"at least {NEEDED * world_size if train else 1}", batch_size)
        if workers < 0:
            raise OptionError("--workers", "0 or more", workers)
        self.dataset, self.batch_size, self.train, self.seed = dataset, batch_size, train, seed
        if train and len(dataset) < NEEDED:
            raise DataError(dataset.info.name, f"at least {NEEDED} training images", len(dataset))
        self.smallest = smallest if train else 0
        self.shuffled = train if shuffled is None else shuffled
        self.device, self.rank, self.world_size, self.workers = torch.device(device), rank, world_size, workers
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (1, 3, 1, 1)
        mean, std = (torch.tensor(x, device=self.device).view(shape) for x in (dataset.info.mean, dataset.info.std))
        self._factor, self._shift = 1 / (255 * std), -mean / std
        if isinstance(dataset, ImageSet):
            padding = dataset.info.padding if train else 0
            self._images_NCHW = torch.nn.functional.pad(dataset.images_NCHW.to(self.device), (padding,) * 4)
            self._labels_N = dataset.labels_N.to(self.device)
        else:
            self._decoder = ImageDecoder(
                dataset,
                seed=seed,
                workers=workers,
                smallest=self.smallest,
                processes_here=processes_here,
                pinned=self.device.type == "cuda",
            )

    def __len__(self) -> int:
        """Steps an epoch; the last batch is what is left."""
        return -(-len(self.dataset) // self.batch_size)

    def global_size(self, step: int) -> int:
        """Return the number of samples of the global batch at `step`."""
        return min(self.batch_size, len(self.dataset) - step * self.batch_size)

    def samples(self, epoch: int, first_step: int = 0) -> list[np.ndarray]:
        """Return this process's sample numbers of each batch from `first_step` on, in order."""
        order, parts = self._order(epoch), []
        for step in range(first_step, len(self)):
            whole = order[step * self.batch_size : step * self.batch_size + self.global_size(step)]
            bounds = [len(whole) * r // self.world_size for r in (self.rank, self.rank + 1)]
            parts.append(whole[bounds[0] : bounds[1]])
        return parts

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32, normalised, labels int64) of this process, on the device, from `first_step` on.

        There may be more images than labels: those at the end fill up a part that is too small for BatchNorm, and are
        to be shown to the network, but not counted. So every sample counts once an epoch, however it is split.

        Raises:
            DataError: too many images cannot be decoded; names them.
        """
        fill_N = self._order(epoch)[: self.smallest]
        parts = [(own_N, fill_N[len(own_N) :]) for own_N in self.samples(epoch, first_step)]
        if isinstance(self.dataset, ImageSet):
            yield from self._from_memory(parts, epoch)
            return
        for images_NCHW, labels_N in self._decoder.decoded(parts, epoch):
            images_NCHW, labels_N = (x.to(self.device, non_blocking=True) for x in (images_NCHW, labels_N))
            yield self._normalised(images_NCHW), labels_N

    def _order(self, epoch: int) -> np.ndarray:
        count = len(self.dataset)
        return stateless.permutation(self.seed, epoch, count) if self.shuffled else np.arange(count)

    def _from_memory(self, parts: list[tuple[np.ndarray, np.ndarray]], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each part; all draws of the epoch go to the device at once, so that no batch waits for a copy."""
        sizes = [len(own_N) + len(more_N) for own_N, more_N in parts]
        sample_M = np.concatenate([sample_N for part in parts for sample_N in part]) if parts else np.empty(0, np.int64)
        draws_XM = torch.from_numpy(self._draws(sample_M, epoch)).to(self.device)
        for (own_N, _), draws_XN in zip(parts, draws_XM.split(sizes, dim=1), strict=True):
            yield self._normalised(self._view(draws_XN)), self._labels_N[draws_XN[0, : len(own_N)]]

    def _draws(self, sample_M: np.ndarray, epoch: int) -> np.ndarray:
        """Return sample numbers and, in training, the row and column of each crop and whether it is mirrored."""
        if not self.train:
            return sample_M[None]
        places = 2 * self.dataset.info.padding + 1
        below = {stateless.ROW: places, stateless.COLUMN: places, stateless.FLIP: 2}
        drawn = [stateless.integers(self.seed, epoch, sample_M, purpose, number) for purpose, number in below.items()]
        return np.stack([sample_M, *drawn])

    def _view(self, draws_XN: Tensor) -> Tensor:
        """Crop and mirror all images of a batch at once: one gather from a view of every possible crop."""
        if not self.train:
            return self._images_NCHW[draws_XN[0]]
        info = self.dataset.info
        at_N, rows, columns, mirror_N = draws_XN
        views = self._images_NCHW.unfold(2, info.image_size, 1).unfold(3, info.image_size, 1)  # no copy
        images_NCHW = views[at_N, :, rows, columns]  # of (N, C, places, places, size, size)
        if info.mirrored:
            images_NCHW = torch.where(mirror_N.bool()[:, None, None, None], images_NCHW.flip(3), images_NCHW)
        return images_NCHW

    def _normalised(self, images_NCHW: Tensor) -> Tensor:
        made_NCHW = torch.empty_like(images_NCHW, dtype=torch.float32, memory_format=self.layout)
        on_cpu = self.device.type == "cpu"  # there, by pieces that stay in cache until they are done
        count = max(1, PIECE // images_NCHW[0].numel()) if on_cpu and len(images_NCHW) else max(1, len(images_NCHW))
        for images, made in zip(images_NCHW.split(count), made_NCHW.split(count), strict=True):
            made.copy_(images.to(torch.float32).mul_(self._factor).add_(self._shift))
        return made_NCHW
