"""Which of the things in a checkpoint are the weights: averaged ones before others, by a fixed order of names.

::

    {"state_dict": …, "state_dict_ema": …, "optimizer": …}  ─►  state_dict_ema, and that state_dict is there too
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# In this order, in each level of a checkpoint. Averaged weights are what training scripts report the accuracy of.
AVERAGED = (
    "ema", "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "params_ema", "ema_model",
    "ema_params", "averaged_model", "swa_state_dict", "swa_model",
)  # fmt: skip
PLAIN = (
    "state_dict", "model", "net", "model_state_dict", "net_state_dict", "params", "weights", "network", "module",
    "state_dict_model", "model_state", "model_weights",
)  # fmt: skip
MAX_DEPTH = 3  # levels that are looked into
COUNTER = "n_averaged"  # beside the weights of torch's AveragedModel


@dataclass(frozen=True)
class Choice:
    """Weights of a checkpoint.

    Attributes:
        found: what stands there, to be checked.
        key: where, as names joined by dots; "" at the top.
        others: keys of other weights in the same file.
    """

    found: object
    key: str
    others: tuple[str, ...]


def choose_weights(read: object) -> Choice:
    """Return the weights of what a file holds; where nothing looks like some, the whole."""
    found = dict(_candidates(read, (), MAX_DEPTH))
    if not found:  # nothing there is a tensor: let the place that should have some be told of
        near = [
            name for name in (*AVERAGED, *PLAIN) if isinstance(read, Mapping) and isinstance(read.get(name), Mapping)
        ]
        return Choice(read[near[0]], near[0], ()) if near and isinstance(read, Mapping) else Choice(read, "", ())
    key, *others = found
    return Choice(found[key], key, tuple(others))


def weights_at(read: object, key: str) -> tuple[object, tuple[str, ...]]:
    """Return what stands at `key`, or None, and the keys at which there are weights."""
    there = tuple(name for name, _ in _candidates(read, (), MAX_DEPTH))
    return _at(read, key), there


def told_of(about: Mapping[str, Any]) -> str | None:
    """Say which weights were taken, where there was a choice or they are averages; `about` is from `load_weights`."""
    key, others = about.get("key"), about.get("other_keys", ())
    if not key:
        return None
    averaged = any(part in AVERAGED for part in key.split("."))
    if not others:
        return f"averaged weights, at {key}" if averaged else None
    return f"took the {'averaged ' * averaged}weights at {key}; --key takes others: {', '.join(others)}"


def unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of the network itself: without the marks of wrappers.

    ``_orig_mod.`` (of torch.compile) goes wherever it stands, ``module.`` (of DataParallel, DDP and AveragedModel)
    where every name has it. The counter of averages goes too.
    """
    if COUNTER in state and all(name.startswith("module.") for name in state if name != COUNTER):
        state = {name: tensor for name, tensor in state.items() if name != COUNTER}
    plain = without_compile_marks(state)
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): tensor for name, tensor in plain.items()}
    return plain


def without_compile_marks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without what torch.compile puts into names; as they are where two names would become one."""
    plain = {".".join(part for part in name.split(".") if part != "_orig_mod"): state[name] for name in state}
    return plain if len(plain) == len(state) else dict(state)


def common_prefix(names: Iterable[str]) -> str:
    """Return the first part that all names share, with its dot: ``model.``; "" where there is none."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 and "" not in firsts else ""


def _candidates(read: object, path: tuple[str, ...], depth: int) -> list[tuple[str, object]]:
    """Return (key, weights) in the order they are to be taken."""
    if not isinstance(read, Mapping) or depth < 0:
        return []
    if _is_state_dict(read):
        return [(".".join(path), read)]
    found = []
    for name in (*AVERAGED, *PLAIN):
        if isinstance(read.get(name), Mapping):
            found += _candidates(read[name], (*path, name), depth - 1)
    weights = [name for name, value in read.items() if isinstance(value, Mapping) and _are_weights(value)]
    return found or [(".".join((*path, str(name))), read[name]) for name in weights]  # under names of its own


def _are_weights(value: Mapping[Any, Any]) -> bool:
    """Whether all are tensors with names, as in no state of an optimizer."""
    return bool(value) and all(isinstance(name, str) and isinstance(x, Tensor) for name, x in value.items())


def _is_state_dict(read: Mapping[Any, Any]) -> bool:
    """Whether there are tensors, and nothing beside them that looks like weights."""
    tensors = [name for name, value in read.items() if isinstance(value, Tensor) and name != COUNTER]
    nested = any(isinstance(read.get(name), Mapping) for name in (*AVERAGED, *PLAIN))
    return bool(tensors) and not nested


def _at(read: object, key: str) -> object:
    if not key:
        return read
    if not isinstance(read, Mapping):
        return None
    if key in read:
        return read[key]
    parts = key.split(".")
    for count in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:count])
        if head in read:
            return _at(read[head], ".".join(parts[count:]))
    return None
