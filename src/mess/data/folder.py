"""Folders of class folders: ImageNet, and users' own images. Paths and labels here; `views` decodes."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np

from mess.class_folders import class_names, digest, folders_in, is_others, same_spelling, split_folder
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, DatasetInfo
from mess.errors import DataError, first_few

ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".bmp", ".gif", ".webp", ".avif", ".jp2",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".tif", ".tiff",
})  # fmt: skip
TEST_SHARE = 10  # percent, where a folder has no test images of its own


class Paths(Sequence[Path]):
    """Many paths as one array of bytes: ImageNet's take 75 MB, not 600, and worker processes share them.

    (Each look at a Python object writes to it, its count of references, so forked workers come to copy a list.)
    """

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]  # refuses what is outside, as a list does
        return Path(os.fsdecode(self._bytes[self._ends[at] : self._ends[at + 1]].tobytes()))


@dataclass(frozen=True)
class ImageFolder:
    """Images on disk.

    Attributes:
        paths: of all images, class by class in sorted order.
        labels_N: int64; classes are numbered in the sorted order of train's folders (for ImageNet: sorted wnids).
        train: cropped by random area and mirrored, else resized and cropped in the centre.
        resize: shorter side before the centre crop; crop: its side, in pixels.
        jitter: brightness, contrast and saturation of training images change by up to this share, each by chance.
        notes: sentences a person should read: files that were left out, classes without images.
    """

    info: DatasetInfo
    paths: Sequence[Path]
    labels_N: np.ndarray
    train: bool
    resize: int = 256
    crop: int = 224
    jitter: float = 0.0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def open_folder(
    root: Path,
    known: DatasetInfo | None,
    *,
    train: bool,
    resize: int,
    crop: int,
    classes: Sequence[str] | str | None = None,
) -> ImageFolder:
    """List the images of one split.

    `root` has a folder `train` and one of `val`, `validation`, `test`; or only class folders, of whose images a
    tenth, chosen by the hash of its path, is for testing. Classes are numbered as in `train`, in both splits.

    Args:
        classes: those of the network that the images are for, or the hash of their names: it numbers them.

    Raises:
        DataError: no such folder, no classes, a class that is not among those of training, one without training
            images, or other classes than the network's.
    """
    if known is not None and not root.is_dir():
        hint = f"`mess fetch {known.name} --datapath {root.parent}` says how to get it, and unpacks it"
        raise DataError(root, "a folder with train and val", "none", hint)
    split, own = split_folder(root, train=train)
    names = imagenet_wnids() if known is not None else _numbered(root, classes)
    if not names:
        raise DataError(split, "a folder for each class", "none")
    folders = same_spelling(folders_in(split), names)
    listed = {name: list_images(split / folder) for folder, name in folders.items()}
    for name, files in listed.items():
        if name not in names and files.paths:
            raise DataError(
                split / name, f"one of the {len(names)} classes trained on: {first_few(names, 5)}", "another"
            )
        if train and known is None and not files.paths:
            raise DataError(split / name, "images", f"none that end in {', '.join(sorted(ENDINGS))}")
    if train and known is None and (lost := [name for name in names if name not in listed]):
        raise DataError(split, f"the {len(names)} classes that the network is trained on", f"no {first_few(lost, 5)}")
    paths: list[str] = []
    counts = []
    for name in names:
        files = listed.get(name, Listed())
        chosen = [p for p in files.paths if own or _is_test(Path(p).relative_to(split)) != train]
        paths += chosen
        counts.append(len(chosen))
    if not paths:
        raise DataError(split, f"images to {'train' if train else 'test'} on", "none")
    part = "" if own else f", to {'train' if train else 'test'} on"
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    notes = _notes(split, listed, empty, len(names), part)
    info = known or DatasetInfo(str(root), len(names), IMAGENET_MEAN, IMAGENET_STD, crop)
    info = replace(info, image_size=crop, class_names=tuple(names))
    labels_N = np.repeat(np.arange(len(names)), counts)
    return ImageFolder(info, Paths(paths), labels_N, train, resize, crop, notes=notes)


@lru_cache(maxsize=1)
def imagenet_wnids() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, whose places are their numbers."""
    return tuple(json.loads(Path(__file__).with_name("imagenet.json").read_text(encoding="utf-8")))


def _numbered(root: Path, classes: Sequence[str] | str | None) -> Sequence[str]:
    """Return class names in the order of their numbers."""
    if classes is not None and not isinstance(classes, str):
        return classes
    names = class_names(root)
    if classes is not None and digest(names) != classes:
        hint = "Their numbers come from train/: put it beside, empty folders will do" if names else ""
        raise DataError(root, "the classes that the network was trained on", f"others: {first_few(names, 5)}", hint)
    return names


@dataclass
class Listed:
    """What lies in a class folder: images, sorted, and by ending how many files that are none."""

    paths: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def list_images(folder: Path) -> Listed:
    """List a class folder, at any depth; hidden files are other programs' notes.

    Folders that are links are followed, each folder once, so that no circle of links is gone round.
    """
    found, seen = Listed(), set()
    for where, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(where)  # noqa: PTH116 - as walk gives it
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_others(name))
        for name in files:
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
            if is_others(name):
                continue
            if ending in ENDINGS:
                found.paths.append(os.path.join(where, name))  # noqa: PTH118 - a Path for each takes several times as long
            else:
                found.others[ending or "no ending"] += 1
    found.paths.sort()
    return found


def _notes(split: Path, listed: Mapping[str, Listed], empty: list[str], classes: int, part: str) -> tuple[str, ...]:
    """Return what a person should know of a split: what is left out of it, and classes that this part does not have."""
    notes = []
    others = sum((files.others for files in listed.values()), Counter[str]())
    if others:
        kinds = ", ".join(f"{ending} ({count:,})" for ending, count in sorted(others.items()))
        notes.append(f"{split}: left out {others.total():,} files that do not end as images do: {kinds}")
    stray = sum(e.is_file() and os.path.splitext(e.name)[1].lower() in ENDINGS for e in os.scandir(split))  # noqa: PTH122
    if stray:
        notes.append(f"{split}: left out {stray:,} images that lie in no class folder")
    if empty:
        notes.append(f"{split}{part}: no images of {len(empty):,} of {classes:,} classes: {first_few(empty, 5)}")
    return tuple(notes)


def _is_test(path: Path) -> bool:
    digest = hashlib.sha256(path.as_posix().encode()).digest()
    return int.from_bytes(digest[:4], "little") % 100 < TEST_SHARE
