"""Weights from any file people keep them in, read without running anything in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mess.errors import CheckpointError
from mess.training.checkpoint import check_seal, is_sealed, read_bytes, read_plain

NESTED_UNDER = ("state_dict", "model", "net", "model_state_dict")
OWN = ("format", "resize", "crop")  # which mean something else in files of others
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
    about = {name: value for name, value in read.items() if isinstance(value, (int, float, str)) and name not in OWN}
    if isinstance(read.get("architecture"), dict):
        about |= {name: read[name] for name in ("resize", "crop") if type(read.get(name)) is int}
        about["architecture"] = read["architecture"]
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
