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

from mess.errors import FormatError, MessError
from mess.version import __version__

if TYPE_CHECKING:
    from mess.codec import FileInfo
    from mess.inspection import inspect
    from mess.pretrained import create_model
    from mess.storing.compress import SizeReport, compress, dumps
    from mess.storing.load import load, load_into, load_state_dict, loads

__all__ = [
    "FileInfo",
    "FormatError",
    "MessError",
    "SizeReport",
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

_HOMES = {
    "FileInfo": ("mess.codec", "FileInfo"),
    "SizeReport": ("mess.storing", "SizeReport"),
    "compress": ("mess.storing", "compress"),
    "create_model": ("mess.pretrained", "create_model"),
    "dumps": ("mess.storing", "dumps"),
    "inspect": ("mess.inspection", "inspect"),
    "load": ("mess.storing", "load"),
    "load_into": ("mess.storing", "load_into"),
    "load_state_dict": ("mess.storing", "load_state_dict"),
    "loads": ("mess.storing", "loads"),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mess' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
