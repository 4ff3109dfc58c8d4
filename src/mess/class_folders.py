"""Which classes a folder of class folders has. Their numbers are those of its training images, in every split."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mess.errors import DataError

TEST_FOLDERS = ("val", "validation", "test")
OTHERS = ("__MACOSX", "@eaDir", "lost+found")
MAX_SPELT_OUT = 128  # bytes of names that a `.mess` file takes; of more it keeps the hash


def split_folder(root: Path, *, train: bool) -> tuple[Path, bool]:
    """Return the folder of a split, and whether the split has it for itself.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(root, "a folder with train and val, or with class folders", "none")
    trains = [root / "train"] if (root / "train").is_dir() else []
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if found := trains if train else tests:
        return found[0], True
    if trains:
        raise DataError(root, f"a folder {' or '.join(TEST_FOLDERS)} beside train", "none")
    if tests:
        raise DataError(root / "train", "a folder of training images", "none")
    return root, False


def class_names(root: Path) -> tuple[str, ...]:
    """Return the classes of a dataset, sorted: those of train/, or where there is none those of the only folder."""
    return folders_in(split_folder(root, train=(root / "train").is_dir())[0])


def folders_in(split: Path) -> tuple[str, ...]:
    """Return the names of the class folders of one split, sorted, without other programs' folders."""
    return tuple(sorted(e.name for e in os.scandir(split) if e.is_dir() and not is_others(e.name)))


def is_others(name: str) -> bool:
    """Return whether a file or folder is other programs': hidden, what macOS puts into zips, thumbnails of a NAS."""
    return name.startswith(".") or name in OTHERS


def same_spelling(found: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return which of `names` each folder is: `é` is one character on some systems and two on others (NFC, NFD)."""
    by_form = {unicodedata.normalize("NFC", name): name for name in names}
    return {name: name if name in names else by_form.get(unicodedata.normalize("NFC", name), name) for name in found}


def compact(names: Sequence[str]) -> list[str] | str:
    """Return class names as a small file keeps them: as they are while that is short, else as their hash."""
    try:
        short = len(json.dumps(list(names), ensure_ascii=False).encode()) <= MAX_SPELT_OUT
    except UnicodeEncodeError:  # a file system allows names that no text can hold
        short = False
    return list(names) if short else digest(names)


def digest(names: Sequence[str]) -> str:
    """Return 64 bits of the SHA-256 of class names in their order."""
    return hashlib.sha256(b"\0".join(map(os.fsencode, names))).hexdigest()[:16]


def as_told(value: object) -> list[str] | str | None:
    """Return what a file says of its classes if it has our form: names, or their hash; else None."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return value
    return value if isinstance(value, str) and len(value) == 16 else None
