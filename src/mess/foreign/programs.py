"""Weights of whole programs, TorchScript's and those of ``torch.export``: tensors out of their archives, no code run.

::

    net.pt    data.pkl (a tree of modules)  + code/*.py (which attributes are parameters) + data/0, data/1, …
    net.pt2   data/weights/model_weights_config.json + data/weights/weight_0, …      (torch 2.8 and later)
              serialized_state_dict.pt, a state dict as torch.save writes it         (before)
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mess.errors import CheckpointError
from mess.foreign.files import EXPORTED, PACKED, QUANTISED, TORCHSCRIPT
from mess.foreign.pickles import DAMAGE, read_foreign

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
# numbers of dtypes in torch.export's schema
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
STRIDED = 7  # of the layouts there
PLACE_OF_CONFIG = "data/weights/model_weights_config.json"
OLD_STATE = "serialized_state_dict.pt"
CLASS = re.compile(r"^class (\w+)\(.*?\):\n(.*?)(?=^class |\Z)", re.MULTILINE | re.DOTALL)
DECLARED = re.compile(r"^  __(?:parameters|buffers)__ = \[(.*?)\]", re.MULTILINE)
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
MAX_DEPTH = 100  # modules within modules
BROKEN = (*DAMAGE, zipfile.BadZipFile, NotImplementedError, RecursionError, OverflowError)


def weights_of_program(content: bytes, path: str | os.PathLike[str], told: tuple[str, str]) -> dict[str, Tensor]:
    """Return the state dict of a program, in the names of the network that it was made of.

    Args:
        told: `TORCHSCRIPT` or `EXPORTED`, as `kind_of` says.

    Raises:
        CheckpointError: damaged, quantised, or of a form that is not known; says how to save the weights.
    """
    read = {TORCHSCRIPT: _scripted, EXPORTED: _exported}[told]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return read(_Archive(archive), path)
    except _UnknownFormError as error:
        raise CheckpointError(path, f"weights in {told[0]}", error.args[0], told[1]) from error
    except BROKEN as error:
        raise CheckpointError(path, f"weights in {told[0]}", "a damaged one, or another form", told[1]) from error


class _UnknownFormError(Exception):
    """What was found in place of a form that is known."""


class _Archive:
    """Files of an archive by their names behind its own folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        names = archive.namelist()
        tops = {name.partition("/")[0] for name in names}
        shared = len(tops) == 1 and all("/" in name for name in names)
        self._archive, self._top = archive, f"{tops.pop()}/" if shared else ""
        self.names = [name.removeprefix(self._top) for name in names]
        if "byteorder" in self.names and self.read("byteorder") != b"little":
            raise _UnknownFormError("numbers of a big-endian machine")

    def read(self, name: str) -> bytes:
        return self._archive.read(self._top + name)


class _Object:
    """An object of a program: its attributes, and the name of its class."""

    name = ""

    def __init__(self, *_: object) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    """Knows modules of programs, as inert objects, tensors and plain data; nothing that it gives away can run code."""

    def __init__(self, archive: _Archive) -> None:
        super().__init__(io.BytesIO(archive.read("data.pkl")))
        self._archive = archive
        self._kept: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type("_Object", (_Object,), {"name": f"{module}.{name}"})
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle" and name in LISTS:
            return list
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch.jit._pickle", "restore_type_tag"): _first,
            ("torch.jit._pickle", "build_tensor_from_id"): _nothing,
            ("torch", "device"): _nothing,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            quantised = "qtensor" in name or "Q" in name
            raise _UnknownFormError(
                QUANTISED if quantised else f"{module}.{name}, which could run code; it was not run"
            )
        return known[module, name]

    def persistent_load(self, told: Any) -> Tensor:
        _, dtype, key, *_ = told
        if key not in self._kept:  # one buffer for tensors that share it
            self._kept[key] = _numbers(self._archive.read(f"data/{key}"), dtype)
        return self._kept[key]


def _scripted(archive: _Archive, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    root = _Unpickler(archive).load()
    found = dict(_walk(root, _declared(archive), "", 0))
    if any(PACKED in name for name in found):
        raise CheckpointError(path, "float weights", "a quantised network", QUANTISED)
    if not found:
        raise _UnknownFormError("none with a name, as in a frozen one")
    return found


def _declared(archive: _Archive) -> dict[str, set[str]]:
    """Return which attributes of each class are parameters or buffers, as the code of a program says, read as text."""
    declared: dict[str, set[str]] = {}
    for name in archive.names:
        if name.startswith("code/") and name.endswith(".py"):
            module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
            for kind, body in CLASS.findall(archive.read(name).decode()):
                lists = DECLARED.findall(body)
                if lists:
                    declared[f"{module}.{kind}"] = {word for words in lists for word in re.findall(r'"([^"]*)"', words)}
    return declared


def _walk(value: object, declared: dict[str, set[str]], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, _Object) or depth > MAX_DEPTH:
        raise _UnknownFormError("something else than a tree of modules")
    own = declared.get(value.name)
    for name, part in value.attributes.items():
        if isinstance(part, Tensor) and (own is None or name in own):
            yield prefix + name, part
        elif PACKED in name:
            yield prefix + name, None
        elif isinstance(part, _Object):
            yield from _walk(part, declared, f"{prefix}{name}.", depth + 1)


def _exported(archive: _Archive, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if OLD_STATE in archive.names:
        return read_foreign(archive.read(OLD_STATE), path)
    if PLACE_OF_CONFIG not in archive.names:
        raise _UnknownFormError("another form")
    told = json.loads(archive.read(PLACE_OF_CONFIG))
    buffers: dict[tuple[str, Any], Tensor] = {}
    found = {}
    for name, entry in told["config"].items():
        content = archive.read(f"data/weights/{entry['path_name']}")
        if entry.get("use_pickle"):
            found[name] = read_foreign(content, path)
            continue
        meta = entry["tensor_meta"]
        if meta["layout"] != STRIDED or meta["dtype"] not in DTYPES:
            raise _UnknownFormError(f"{name} of another layout or dtype")
        key = entry["path_name"], DTYPES[meta["dtype"]]
        if key not in buffers:
            buffers[key] = _numbers(content, key[1])
        sizes, strides = ([one["as_int"] for one in meta[part]] for part in ("sizes", "strides"))
        found[name] = _rebuilt(buffers[key], meta["storage_offset"]["as_int"], sizes, strides)
    return found


def _numbers(content: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _rebuilt(numbers: Tensor, offset: int, sizes: Any, strides: Any, *_: object) -> Tensor:
    """Return a view of numbers; raises RuntimeError where it would reach beyond them."""
    return numbers.as_strided(tuple(sizes), tuple(strides), offset)


def _first(value: object, *_: object) -> object:
    return value


def _nothing(*_: object) -> None:
    return None
