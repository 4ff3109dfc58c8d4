"""Folders of class folders: ImageNet, and anybody's own pictures. Paths and labels here; `pictures` decodes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, DatasetInfo
from mess.errors import DataError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"})
TEST_FOLDERS = ("val", "validation", "test")
TEST_SHARE = 10  # percent, where a folder has no test pictures of its own


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
    """Pictures on disk.

    Attributes:
        paths: of all pictures, class by class in sorted order.
        labels_N: int64; classes are numbered in the sorted order of their folders (for ImageNet: sorted wnids).
        train: cropped by random area and mirrored, else resized and cropped in the centre.
        resize: shorter side before the centre crop; crop: its side, in pixels.
        jitter: brightness, contrast and saturation of training pictures change by up to this share, each by chance.
    """

    info: DatasetInfo
    paths: Sequence[Path]
    labels_N: np.ndarray
    train: bool
    resize: int = 256
    crop: int = 224
    jitter: float = 0.0

    def __len__(self) -> int:
        return len(self.paths)


def open_folder(root: Path, known: DatasetInfo | None, *, train: bool, resize: int, crop: int) -> ImageFolder:
    """List the pictures of one split.

    `root` has a folder `train` and one of `val`, `validation`, `test`; or only class folders, of whose pictures a
    tenth, chosen by the hash of its path, is for testing.

    Raises:
        DataError: no such folder, no classes, or a class without pictures.
    """
    if known is not None and not root.is_dir():
        hint = f"`mess fetch {known.name} --datapath {root.parent}` says how to get it, and unpacks it"
        raise DataError(root, "a folder with train and val", "none", hint)
    split, own = _split_folder(root, train)
    classes = sorted(e.name for e in os.scandir(split) if e.is_dir() and not e.name.startswith("."))
    if known is not None and len(classes) != known.num_classes:
        raise DataError(split, f"{known.num_classes} class folders", len(classes))
    if not classes:
        raise DataError(split, "a folder for each class", "none")
    paths: list[str] = []
    counts = []
    for name in classes:
        pictures = sorted(_pictures(split / name))
        if not pictures:
            raise DataError(split / name, "pictures", f"none that end in {', '.join(sorted(ENDINGS))}")
        chosen = pictures if own else [p for p in pictures if _is_test(Path(p).relative_to(split)) != train]
        paths += chosen
        counts.append(len(chosen))
    if not paths:
        raise DataError(split, "pictures for this split", "none")
    info = known or DatasetInfo(str(root), len(classes), IMAGENET_MEAN, IMAGENET_STD, crop)
    info = replace(info, image_size=crop, class_names=tuple(classes))
    return ImageFolder(info, Paths(paths), np.repeat(np.arange(len(classes)), counts), train, resize, crop)


def _pictures(folder: Path) -> Iterator[str]:
    """Yield the pictures in a class folder, at any depth; hidden files are other programs' notes."""
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if os.path.splitext(name)[1].lower() in ENDINGS and not name.startswith("."):  # noqa: PTH122
                yield os.path.join(where, name)  # noqa: PTH118 - a Path for each would take several times as long


def _split_folder(root: Path, train: bool) -> tuple[Path, bool]:
    """Return the folder of a split, and whether the split has it for itself."""
    if not root.is_dir():
        raise DataError(root, "a folder with train and val, or with class folders", "none")
    if not (root / "train").is_dir():
        tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
        if tests and not train:
            return tests[0], True
        if tests:
            raise DataError(root / "train", "a folder of training pictures", "none")
        return root, False
    if train:
        return root / "train", True
    for name in TEST_FOLDERS:
        if (root / name).is_dir():
            return root / name, True
    raise DataError(root, f"a folder {' or '.join(TEST_FOLDERS)} beside train", "none")


def _is_test(path: Path) -> bool:
    digest = hashlib.sha256(path.as_posix().encode()).digest()
    return int.from_bytes(digest[:4], "little") % 100 < TEST_SHARE
