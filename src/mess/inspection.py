"""Looking into any file, or through it, with as little imported as it allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

from mess.codec import FileInfo, inspect_file, read_model, reconstruct
from mess.codec.contents import NO_LAYOUT
from mess.codec.model_file import LARGEST_MODEL
from mess.errors import FormatError
from mess.files import Source, path_or_bytes
from mess.graphs.tensors import put_back
from mess.layouts import Layout, known_layout

Read = TypeVar("Read")


def inspect(path: Source, *, max_bytes: int = LARGEST_MODEL) -> FileInfo:
    """Return what a file holds, byte for byte, without decoding it.

    Files that say everything themselves and those of the usual networks (`mess.layouts`) need no torch; one that names
    another network of the zoo needs the zoo.

    Args:
        path: a file, its bytes, or one that is open for reading.
        max_bytes: as in `load`: what a file says is looked at no further where it says more.

    Raises:
        FormatError: the file breaks docs/FORMAT.md, or its tensors would take more than `max_bytes`.
    """
    source = path_or_bytes(path)
    return _with_layout(lambda layout: inspect_file(source, layout=layout, max_bytes=max_bytes))


def decode(path: str | os.PathLike[str], *, max_bytes: int = LARGEST_MODEL) -> int:
    """Decode every number in a file, and put the tensors of a graph in their places; return how many tensors there are.

    Args:
        path: of the file.
        max_bytes: as in `load`.

    Raises:
        FormatError: the file breaks docs/FORMAT.md, or its tensors would take more than `max_bytes`.
    """
    stored = _with_layout(lambda layout: read_model(path, layout=layout, max_bytes=max_bytes))
    tensors = {name: array for name, (array, _) in reconstruct(stored).items()}
    if stored.graph is not None and find_spec("onnx") is not None:
        put_back(stored.graph, tensors, os.fspath(path))
    return len(tensors)


def _with_layout(read: Callable[[Any], Read]) -> Read:
    """Read a file with the layouts that are known without torch, or else with the zoo's."""
    try:
        return read(_layout)
    except FormatError as error:
        if error.expected != NO_LAYOUT:
            raise
    from mess.models.described import layout_of  # torch takes a second to import

    return read(layout_of)


def _layout(network: dict[str, Any]) -> Layout:
    found = known_layout(network)
    if found is None:
        raise FormatError("network", NO_LAYOUT, network.get("arch"))
    return found
