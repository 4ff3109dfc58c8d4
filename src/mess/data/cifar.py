"""CIFAR-10 and CIFAR-100, from either of the layouts in which their authors give them away.

Binary: records of label bytes (CIFAR-100: coarse, then fine) and 3,072 pixel bytes. Python: pickles of dicts, read by
an unpickler that knows arrays, strings and containers, and nothing that could run code.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mess.data.info import KNOWN, ImageSet, image_set
from mess.errors import DataError

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Where the files of one dataset lie."""

    binary: str
    python: str
    train: tuple[str, ...]
    test: str
    label_bytes: int  # before the pixels in a binary record; the last one counts
    label_key: bytes
    names: tuple[str, str]  # binary and python file of class names
    names_key: bytes


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin", "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch",
        1, b"labels", ("batches.meta.txt", "batches.meta"), b"label_names",
    ),
    "cifar100": Layout(
        "cifar-100-binary", "cifar-100-python", ("train",), "test",
        2, b"fine_labels", ("fine_label_names.txt", "meta"), b"fine_label_names",
    ),
}  # fmt: skip


def load_cifar(name: str, datapath: Path, *, train: bool) -> ImageSet:
    """Return the 50,000 training or 10,000 test images (or as many whole records as the files hold).

    Raises:
        DataError: names the file that is missing or damaged, and how to get it.
    """
    layout, info = LAYOUTS[name], KNOWN[name]
    files = layout.train if train else (layout.test,)
    if (datapath / layout.binary).is_dir():
        folder = datapath / layout.binary
        parts = [_read_binary(_present(folder / f"{file}.bin", name), layout, info.num_classes) for file in files]
        class_names = _lines(folder / layout.names[0])
    elif (datapath / layout.python).is_dir():
        folder = datapath / layout.python
        parts = [_read_pickle(_present(folder / file, name), layout, info.num_classes) for file in files]
        class_names = _names(folder / layout.names[1], layout)
    else:
        raise DataError(
            datapath, f"a folder {layout.binary} or {layout.python}", "neither", _how_to_get(name, datapath)
        )
    images = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32)
    return image_set(replace(info, class_names=class_names), images, np.concatenate([part[1] for part in parts]))


def _how_to_get(name: str, datapath: Path) -> str:
    archive = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}[name]
    by_hand = f"unpack {archive} from https://www.cs.toronto.edu/~kriz/cifar.html in {datapath}"
    return f"`mess fetch {name} --datapath {datapath}` fetches it; or {by_hand}"


def _present(path: Path, name: str) -> Path:
    if not path.is_file():
        raise DataError(path, "a file of the dataset", "none", _how_to_get(name, path.parents[1]))
    return path


def _read_binary(path: Path, layout: Layout, classes: int) -> tuple[np.ndarray, np.ndarray]:
    record = layout.label_bytes + PIXELS
    size = path.stat().st_size
    if not size or size % record:
        raise DataError(path, f"records of {record} bytes", f"{size} bytes", "The file is damaged: fetch it again")
    records = np.memmap(path, np.uint8, "r").reshape(-1, record)  # copied once, where all of them are joined
    return records[:, layout.label_bytes :], _checked(records[:, layout.label_bytes - 1], classes, path)


def _read_pickle(path: Path, layout: Layout, classes: int) -> tuple[np.ndarray, np.ndarray]:
    batch = read_plain_pickle(path)
    data, labels = (batch.get(b"data"), batch.get(layout.label_key)) if isinstance(batch, dict) else (None, None)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS or data.dtype != np.uint8:
        raise DataError(path, f"an array of rows of {PIXELS} bytes under 'data'", type(data).__name__)
    if not isinstance(labels, list) or len(labels) != len(data) or not all(type(x) is int for x in labels):
        raise DataError(path, f"{len(data)} labels under '{layout.label_key.decode()}'", type(labels).__name__)
    return data, _checked(np.asarray(labels), classes, path)


def _checked(labels: np.ndarray, classes: int, path: Path) -> np.ndarray:
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise DataError(path, f"labels 0 to {classes - 1}", wrong, "The file is damaged: fetch it again")
    return labels.astype(np.int64)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8", errors="replace").split()) if path.is_file() else ()


def _names(path: Path, layout: Layout) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    meta = read_plain_pickle(path)
    names = meta.get(layout.names_key, []) if isinstance(meta, dict) else []
    return tuple(name.decode("utf-8", "replace") for name in names if isinstance(name, bytes))


def read_plain_pickle(path: Path) -> Any:
    """Unpickle arrays, numbers, strings and containers of them.

    Raises:
        DataError: the file is damaged or asks for anything else; nothing of it is run.
    """
    content = path.read_bytes()
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except _HostileError as error:
        raise DataError(
            path, "a pickle of arrays and lists", f"one that asks for {error}; it was not loaded"
        ) from error
    except Exception as error:
        raise DataError(path, "a pickled batch", f"a damaged file ({type(error).__name__})") from error


class _HostileError(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        module = module.replace("numpy.core", "numpy._core")  # as NumPy 1 pickled
        if (module, name) == ("numpy._core.multiarray", "_reconstruct"):
            from numpy._core.multiarray import _reconstruct

            return _reconstruct
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise _HostileError(f"{module}.{name}")


def _encode(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 build bytes with; the general function could name any codec."""
    if encoding != "latin1":
        raise _HostileError(f"codec {encoding}")
    return text.encode("latin1")
