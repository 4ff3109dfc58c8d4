"""Weights from any file people keep them in, read without running anything in it."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mess.class_folders import as_told
from mess.errors import CheckpointError

SEAL = b"sha256:"  # before the SHA-256 of all that stands before it, at the end of a checkpoint of ours
SEAL_LENGTH = len(SEAL) + 64
CODE = ("unsupported GLOBAL", "Unsupported global", "Unsupported class", "unrecognized function")  # torch's words

NESTED_UNDER = ("state_dict", "model", "net", "model_state_dict")
OWN = ("format", "resize", "crop", "classes")  # which mean something else in files of others
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel / DDP and torch.compile put before every name


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a network from a file, onto the CPU.

    Known are checkpoints of MESS (their averaged weights, if they have some), bare state dicts, state dicts nested in a
    checkpoint of others, old and new ``torch.save`` files, and ``.safetensors``.

    Returns:
        The state dict, without the prefixes of wrappers, and what else of numbers and strings the file says at its top
        (with "architecture", a dict, if it is a checkpoint of MESS).

    Raises:
        CheckpointError: not there, damaged, not weights, or a pickle that could run code.
    """
    content = read_bytes(path)
    if content[8:9] == b"{":  # an 8-byte length, then JSON
        found, about = _from_safetensors(content, path)
    else:
        if is_sealed(content):
            check_seal(content, path)
        found, about = _unnested(read_plain(content, path))
    return unwrapped(_checked(found, path)), about


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers put before names, where every name has them."""
    for prefix in WRAPPERS * 2:  # they nest, in either order
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def is_sealed(content: bytes) -> bool:
    """Return whether `content` ends with a seal, true or not."""
    return content[-SEAL_LENGTH:].startswith(SEAL)


def check_seal(content: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse a file that is not what was written.

    Raises:
        CheckpointError: the seal is missing (the file was cut short) or another than the content's.
    """
    if not is_sealed(content):
        raise CheckpointError(path, "a whole checkpoint", "a file without its checksum: cut short, or not from MESS")
    body = content[:-SEAL_LENGTH]
    if content[-SEAL_LENGTH + len(SEAL) :] != hashlib.sha256(body).hexdigest().encode():
        raise CheckpointError(path, "the content its SHA-256 was taken of", "another content: the file is damaged")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return a file's content, or say that it is not there."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(path, "a file that can be read", error.strerror or str(error)) from error


def read_plain(content: bytes, path: str | os.PathLike[str]) -> Any:
    """Unpickle tensors, numbers, strings and containers of them, and nothing else, onto the CPU.

    Raises:
        CheckpointError: the file is damaged, or holds anything that could run code (it is not run).
    """
    try:
        with warnings.catch_warnings():  # it warns of what it is about to refuse
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(word in str(error) for word in CODE):
            found = "a pickle of other objects, which could run code; it was not loaded"
            raise CheckpointError(path, "plain tensors, numbers and strings", found) from error
        raise CheckpointError(path, "a weights file", "something else, or a damaged one") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        # torch.load has no error of its own: each of these is what some damaged file makes it raise
        raise CheckpointError(path, "a weights file", "something else, or a damaged one") from error


def _from_safetensors(content: bytes, path: str | os.PathLike[str]) -> tuple[object, dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content), {}
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(path, "a .safetensors file", f"a damaged one ({error})") from error


def _unnested(read: object) -> tuple[object, dict[str, Any]]:
    """Return (state dict, plain facts beside it)."""
    if not isinstance(read, dict):
        return read, {}
    about: dict[str, Any] = {
        n: value for n, value in read.items() if isinstance(value, (int, float, str)) and n not in OWN
    }
    if isinstance(read.get("architecture"), dict):
        about |= {name: read[name] for name in ("resize", "crop") if type(read.get(name)) is int}
        about["architecture"] = read["architecture"]
        if (classes := as_told(read.get("classes"))) is not None:
            about["classes"] = classes
        about |= {name: read[name] for name in ("mean", "std") if _is_colour(read.get(name))}
    average = read.get("ema")
    if isinstance(average, dict) and isinstance(average.get("state_dict"), dict):
        return average["state_dict"], about
    for name in NESTED_UNDER:
        if isinstance(read.get(name), Mapping):
            return read[name], about
    return read, {}


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(x, float) for x in value)


def _checked(found: object, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(path, "a state dict", f"{type(found).__name__}" if found else "an empty one")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {name}", "a tensor", type(value).__name__, "It is no state dict")
    return dict(found)
