"""What is known of a dataset before it is opened, and the two forms in which images come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mess.errors import OptionError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Refuse what no image can be normalised by.

    Raises:
        OptionError: not three finite numbers, or a std that is not above 0.
    """
    for flag, value in (("--mean", mean), ("--std", std)):
        if value is None:
            continue
        numbers = list(value) if isinstance(value, Sequence) else [value]  # a file may say anything
        finite = all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
        if len(numbers) != 3 or not finite:
            raise OptionError(flag, "three finite numbers", value)
    if std is not None and min(std) <= 0:
        raise OptionError("--std", "three finite numbers above 0", tuple(std))


@dataclass(frozen=True)
class DatasetInfo:
    """Facts of a dataset.

    Attributes:
        mean, std: of R, G, B over the training images, in 0…1.
        image_size: side of what a network sees, in pixels.
        padding: pixels by which a training image is shifted at most; 0 for images that are cropped by area.
        mirrored: whether a mirror image is as good as the image (not so for digits).
    """

    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    padding: int = 0
    mirrored: bool = True
    class_names: tuple[str, ...] = ()

    def normalised_by(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> DatasetInfo:
        """Return the same facts with another mean or std.

        Raises:
            OptionError: see `check_normalisation`.
        """
        check_normalisation(mean, std)
        return replace(self, mean=tuple(mean or self.mean), std=tuple(std or self.std))


# mean and std of CIFAR over the training pixels, as usually quoted to four digits
KNOWN = {
    "digits": DatasetInfo("digits", 10, (0.3053,) * 3, (0.3760,) * 3, 32, padding=2, mirrored=False),
    "cifar10": DatasetInfo("cifar10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 32, padding=4),
    "cifar100": DatasetInfo("cifar100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 32, padding=4),
    "imagenet": DatasetInfo("imagenet", 1000, IMAGENET_MEAN, IMAGENET_STD, 224),
}


def dataset_names() -> tuple[str, ...]:
    """Return the datasets that have a name; any folder of class folders is one more."""
    return tuple(KNOWN)


def takes_sizes(name: str) -> bool:
    """Return whether images of a dataset, or a folder, are cut to size; those that are held in memory are not."""
    return name not in KNOWN or KNOWN[name].padding == 0


@dataclass(frozen=True)
class ImageSet:
    """A dataset that fits in memory.

    Attributes:
        images_NCHW: uint8, R G B.
        labels_N: int64 class numbers.
    """

    info: DatasetInfo
    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


def image_set(info: DatasetInfo, images: object, labels: object) -> ImageSet:
    """Return arrays as an `ImageSet`."""
    return ImageSet(info, torch.as_tensor(images, dtype=torch.uint8), torch.as_tensor(labels, dtype=torch.int64))
