"""MESS, the Memory-Efficient Storing Scheme: convolutional networks in very few bytes.

Data flows one way, and `decompress` reads as the same sentence backwards::

    data → models → training → scheme → codec → file
    images  nets    weights    matches   bytes   .mess

The public face is this page; everything on it is imported when it is first used, so that reading and inspecting a
file needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mess.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DownloadError,
    FormatError,
    MessError,
    OptionError,
    OutputError,
    WeightsError,
)
from mess.version import __version__

if TYPE_CHECKING:
    from mess.codec import FileInfo, TensorInfo
    from mess.inspection import inspect
    from mess.models import Architecture
    from mess.pretrained import create_model
    from mess.scheme.learned import StageProgress
    from mess.storing.compress import compress, dumps
    from mess.storing.layers import LayerRule
    from mess.storing.load import load, load_into, load_state_dict, loads
    from mess.storing.look import Look
    from mess.storing.options import StoreOptions
    from mess.storing.size_report import SizeReport

__all__ = [
    "Architecture",
    "CheckpointError",
    "DataError",
    "DeviceError",
    "DownloadError",
    "FileInfo",
    "FormatError",
    "LayerRule",
    "Look",
    "MessError",
    "OptionError",
    "OutputError",
    "SizeReport",
    "StageProgress",
    "StoreOptions",
    "TensorInfo",
    "WeightsError",
    "__version__",
    "compress",
    "create_model",
    "dumps",
    "inspect",
    "load",
    "load_into",
    "load_state_dict",
    "loads",
]

# module -> the names that are imported from it
_EXPORTS = {
    "mess.codec": ("FileInfo", "TensorInfo"),
    "mess.inspection": ("inspect",),
    "mess.models": ("Architecture",),
    "mess.pretrained": ("create_model",),
    "mess.scheme.learned": ("StageProgress",),
    "mess.storing": (
        "SizeReport", "StoreOptions", "compress", "dumps", "load", "load_into", "load_state_dict", "loads",
    ),
    "mess.storing.layers": ("LayerRule",),
    "mess.storing.look": ("Look",),
}  # fmt: skip
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}

if not TYPE_CHECKING:  # type checkers know the names above, and are to say where another is meant

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module 'mess' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
