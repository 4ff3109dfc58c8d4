"""Checkpoints of others, with all that lies beside their tensors, read without running anything that is theirs.

Training scripts save numpy scalars, an `argparse.Namespace` or a `Path` beside the weights, which torch's own reader of
plain data refuses. Here every class that it does not know is replaced by an inert stand-in of the same name: it is
never imported, takes whatever it is given and keeps nothing. Files that name what serves to run code are refused.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from mess.errors import CheckpointError, first_few

# a class that torch's reader does not know, in the words of torch 2.4 and later
UNKNOWN = re.compile(r"GLOBAL (\S+?) (?:was not|whose module)|(?:Unsupported class|unsupported GLOBAL) (\S+)")
BLOCKED = "whose module"  # torch's word for modules that it refuses always
DANGEROUS = frozenset({
    "builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "runpy", "importlib", "ctypes",
    "socket", "pty", "pickle", "marshal", "code", "codeop", "commands", "webbrowser", "asyncio", "multiprocessing",
})  # fmt: skip
HARMLESS = frozenset({
    "list", "dict", "tuple", "int", "float", "str", "bool", "frozenset", "object", "bytes", "range", "slice",
})  # fmt: skip
MAX_CLASSES = 256
SAVE_AGAIN = "Where it was made: torch.save(model.state_dict(), 'weights.pth')"
# what torch.load raises on damaged files, as it has no error of its own
DAMAGE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    AssertionError, OSError,
)  # fmt: skip


class Inert:
    """Stands in for an object of a class that is not looked at; subclasses have that class's name."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Take anything."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Keep nothing."""

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


def read_foreign(content: bytes, path: str | os.PathLike[str]) -> Any:
    """Return what ``torch.save`` wrote, on the CPU, with `Inert` objects in place of all but plain data.

    Raises:
        CheckpointError: the file is damaged, or names what could run code; nothing of it was run.
    """
    stand_ins: dict[str, type[Inert]] = {}
    while True:
        try:
            with warnings.catch_warnings(), _known(list(stand_ins.values())):
                warnings.simplefilter("ignore")  # it warns of what it is about to refuse
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except DAMAGE as error:
            name = _unknown_class(error)
            if name in HARMLESS:  # torch's words leave the module out
                name = f"builtins.{name}"
            if name is None or name in stand_ins or len(stand_ins) >= MAX_CLASSES:
                raise _refusal(path, error, list(stand_ins)) from error
            harmless = name.startswith("builtins.") and name.removeprefix("builtins.") in HARMLESS
            if not harmless and (BLOCKED in str(error) or "." not in name or name.partition(".")[0] in DANGEROUS):
                found = f"a pickle that names {name}, which could run code; it was not loaded"
                raise CheckpointError(path, "tensors, numbers, strings and other data", found, SAVE_AGAIN) from error
            stand_ins[name] = _stand_in(name)


def class_name(value: object) -> str:
    """Return the name of a value's class, also where an inert object stands for it."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(value, Inert) else kind.__name__


def _known(classes: list[type[Inert]]) -> AbstractContextManager[object]:
    """Let torch's reader make objects of these classes; torch 2.4 has no way to, and goes on refusing them."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    return nullcontext() if safe_globals is None else safe_globals(classes)


def _unknown_class(error: Exception) -> str | None:
    found = UNKNOWN.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return (found[1] or found[2]).rstrip(".") if found else None


def _stand_in(name: str) -> type[Inert]:
    module, _, qualname = name.rpartition(".")
    return type("Inert", (Inert,), {"__module__": module, "__qualname__": qualname})


def _refusal(path: str | os.PathLike[str], error: Exception, classes: list[str]) -> CheckpointError:
    if classes:
        named = first_few(classes)
        return CheckpointError(path, "tensors beside plain data", f"objects of {named}", SAVE_AGAIN)
    if re.search("[Rr]educe|[Gg]lobal|torch.nested|DTensor", str(error)):
        return CheckpointError(path, "plain tensors", "objects that could run code; it was not loaded", SAVE_AGAIN)
    return CheckpointError(path, "a weights file", "something else, or a damaged one")
