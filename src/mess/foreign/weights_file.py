"""Weights from any file people keep them in, read without running anything in it."""

from __future__ import annotations

import hashlib
import io
import logging
import math
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
from mess.extra_state import LAST as EXTRA_STATE
from mess.foreign.files import PACKED, PROGRAMS, QUANTISED, kind_of
from mess.foreign.nested import AVERAGED, PLAIN, choose_weights, unwrapped, weights_at
from mess.foreign.pickles import DAMAGE, SAVE_AGAIN, Inert, class_name, read_foreign
from mess.foreign.programs import weights_of_program

log = logging.getLogger("mess.weights")
SEAL = b"sha256:"  # before the SHA-256 of all that stands before it, at the end of a checkpoint of ours
SEAL_LENGTH = len(SEAL) + 64
CODE = ("unsupported GLOBAL", "Unsupported global", "Unsupported class", "unrecognized function")  # torch's words

ARCHITECTURE = {"arch", "dataset", "num_classes", "layers", "width_mult", "groups"}  # how ours is described
# not facts as they stand: these mean something else in checkpoints of others
OWN = ("format", "resize", "crop", "classes", "mean", "std", "architecture", "scheme", "rounds", "key", "other_keys")


def load_weights(path: str | os.PathLike[str], key: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a network from a file, onto the CPU.

    Known are checkpoints of MESS, bare state dicts, state dicts nested in a checkpoint of others, old and new
    ``torch.save`` files, programs of TorchScript and ``torch.export`` (see `mess.foreign.programs`), and
    ``.safetensors``. Where a file has several, averaged weights come before others, in the order of
    `mess.foreign.nested`.

    Args:
        key: where in the file the weights are, names joined by dots: ``state_dict``, ``ema.state_dict``.

    Returns:
        The state dict, without the prefixes of wrappers, and what else of numbers and strings the file says at its top:
        with "architecture", a dict, if it is a checkpoint of MESS; "mean" and "std" where they are three numbers each;
        "key", where the weights were, and "other_keys", where there are others, if they lay in something.

    Raises:
        CheckpointError: not there, damaged, not weights, or a pickle that could run code.
    """
    content = read_bytes(path)
    if content[8:9] == b"{":  # an 8-byte length, then JSON
        read, about, key = _from_safetensors(content, path), {}, key or ""
    else:
        if is_sealed(content):
            check_seal(content, path)
        told = None if is_sealed(content) else kind_of(content, os.fspath(path))
        if told is not None and told not in PROGRAMS:
            raise CheckpointError(path, "a weights file", *told)
        read = read_foreign(content, path) if told is None else weights_of_program(content, path, told)
        about = _facts(read, ours=is_sealed(content))
    if key:
        found, there = weights_at(read, key)
        others = tuple(other for other in there if other != key)
        if found is None:
            known = ", ".join(other or "the file itself" for other in there)
            raise CheckpointError(path, f"weights at {key}", "none there", f"There are: {known}" if known else "")
    else:
        choice = choose_weights(read)
        found, key, others = choice.found, choice.key, choice.others
    if key:
        about |= {"key": key, "other_keys": list(others)}
    weights = unwrapped(_checked(found, path))
    log.info("%s: %d tensors%s", path, len(weights), f", at {key}" if key else "")
    return weights, about


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


def read_bytes(path: str | os.PathLike[str], count: int = -1) -> bytes:
    """Return a file's content, or its first `count` bytes, or say that it is not there."""
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except FileNotFoundError as error:
        raise CheckpointError(path, "a file", "nothing of that name") from error
    except IsADirectoryError as error:
        raise CheckpointError(path, "a file", "a folder") from error
    except OSError as error:
        found = f"one that cannot be read ({error.strerror or error})"
        raise CheckpointError(path, "a file", found) from error


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
    except DAMAGE as error:
        raise CheckpointError(path, "a weights file", "something else, or a damaged one") from error


def _from_safetensors(content: bytes, path: str | os.PathLike[str]) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(path, "a .safetensors file", f"a damaged one ({error})") from error


def _facts(read: object, *, ours: bool) -> dict[str, Any]:
    """Return the plain facts beside the weights."""
    if not isinstance(read, dict):
        return {}
    about: dict[str, Any] = {
        name: value
        for name, value in read.items()
        if isinstance(name, str) and isinstance(value, (int, float, str)) and name not in OWN
    }
    about |= {name: list(map(float, read[name])) for name in ("mean", "std") if is_colour(read.get(name), name)}
    named = read.get("architecture")
    if isinstance(named, dict) and (ours or named.keys() == ARCHITECTURE):
        about |= {name: read[name] for name in ("resize", "crop") if type(read.get(name)) is int}
        about["architecture"] = named
        if (classes := as_told(read.get("classes"))) is not None:
            about["classes"] = classes
    return about


def is_colour(value: object, name: str) -> bool:
    """Return whether this is a mean or a standard deviation of R, G, B: three finite numbers, the latter above 0."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    numbers = all(type(x) in (int, float) and math.isfinite(x) for x in value)
    return numbers and (name == "mean" or min(value) > 0)


def _checked(found: object, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise CheckpointError(path, "a state dict", class_name(found), SAVE_AGAIN)
    if not found:
        raise CheckpointError(path, "a state dict", "an empty one", SAVE_AGAIN)
    for name in (*AVERAGED, *PLAIN):
        if isinstance(found.get(name), Inert):  # a network that was saved as a whole
            hint = f"Where it was made: torch.save(checkpoint['{name}'].state_dict(), 'weights.pth')"
            raise CheckpointError(f"{path}: {name}", "a state dict", f"an object of {class_name(found[name])}", hint)
    state = {name: value for name, value in found.items() if value is not None}  # biases that layers do without
    for name, value in state.items():
        if isinstance(name, str) and name.rpartition(".")[2] == EXTRA_STATE:
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor):
            hint = QUANTISED if PACKED in str(name) else "It is no state dict"
            raise CheckpointError(f"{path}: {name}", "a tensor", class_name(value), hint)
    return state
