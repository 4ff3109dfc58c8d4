"""Folders of class folders: ImageNet, and anybody's own pictures. Paths and labels here; `pictures` decodes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, DatasetInfo
from mess.errors import DataError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff"})
TEST_FOLDERS = ("val", "validation", "test")
TEST_SHARE = 10  # percent, where a folder has no test pictures of its own


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
    paths: tuple[Path, ...]
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
    split, own = _split_folder(root, train)
    classes = sorted(entry for entry in split.iterdir() if entry.is_dir())
    if known is not None and len(classes) != known.num_classes:
        raise DataError(split, f"{known.num_classes} class folders", len(classes))
    if not classes:
        raise DataError(split, "a folder for each class", "none")
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        pictures = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
        chosen = pictures if own else [p for p in pictures if _is_test(p.relative_to(split)) != train]
        if not pictures:
            raise DataError(folder, "pictures", f"none that end in {', '.join(sorted(ENDINGS))}")
        paths += chosen
        labels += [label] * len(chosen)
    if not paths:
        raise DataError(split, "pictures for this split", "none")
    names = tuple(folder.name for folder in classes)
    info = known or DatasetInfo(str(root), len(classes), IMAGENET_MEAN, IMAGENET_STD, crop)
    info = replace(info, image_size=crop, class_names=names)
    return ImageFolder(info, tuple(paths), np.asarray(labels, dtype=np.int64), train, resize, crop)


def _split_folder(root: Path, train: bool) -> tuple[Path, bool]:
    """Return the folder of a split, and whether the split has it for itself."""
    if not root.is_dir():
        raise DataError(root, "a folder with train and val", "none", "Give the folder with --datapath or as DATA")
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
