"""From a name to a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mess.data.cifar import LAYOUTS, load_cifar
from mess.data.digits import load_digits
from mess.data.folder import ImageFolder, open_folder
from mess.data.info import KNOWN, ImageSet, dataset_names
from mess.errors import OptionError, one_of


def open_dataset(
    name: str,
    datapath: str | Path = "../data",
    *,
    train: bool,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int = 256,
    crop: int = 224,
    jitter: float = 0.0,
    classes: Sequence[str] | str | None = None,
) -> ImageSet | ImageFolder:
    """Open one split of a dataset.

    Args:
        name: one of `dataset_names()`, or a folder of class folders.
        datapath: folder that holds the datasets.
        train: the training split, else the test split.
        mean, std: of R, G, B, in place of the dataset's own.
        resize, crop: of images in folders: shorter side, and side of the centre crop, in tests.
        classes: of own folders: the network's classes, see `open_folder`.
        jitter: of training images in folders: how far brightness, contrast and saturation change, 0 to below 1.

    Raises:
        DataError: missing or damaged files; says which, and how to get them.
        OptionError: no such dataset, or a number that cannot be.
    """
    if not 0 <= jitter < 1:
        raise OptionError("--jitter", "a share from 0 to below 1", jitter)
    for flag, side in (("--resize", resize), ("--crop", crop)):
        if side < 1:
            raise OptionError(flag, "1 pixel or more", side)
    datapath = Path(datapath)
    opened: ImageSet | ImageFolder
    if name == "digits":
        opened = load_digits(train=train)
    elif name in LAYOUTS:
        opened = load_cifar(name, datapath, train=train)
    elif name == "imagenet":
        opened = open_folder(datapath / "imagenet", KNOWN["imagenet"], train=train, resize=resize, crop=crop)
    elif Path(name).is_dir():
        opened = open_folder(Path(name), None, train=train, resize=resize, crop=crop, classes=classes)
    else:
        raise OptionError("DATA", one_of(dataset_names(), name) + " or a folder of class folders", name)
    if isinstance(opened, ImageFolder):
        opened = replace(opened, jitter=jitter)
    return replace(opened, info=opened.info.normalised_by(mean, std))
