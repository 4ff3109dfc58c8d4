"""What modules keep beside tensors in a state dict: `get_extra_state` gives it, `set_extra_state` takes it back.

Tensors among it are stored as any other. All else has to be JSON, which a file can say and nothing can be run from.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mess.errors import WeightsError

LAST = "_extra_state"  # torch's name for it, behind that of the module
STATES = "extra_state"  # in a scheme: by name in the state dict
HINT = "Let get_extra_state give a tensor, or numbers, text, lists and dicts with names, as JSON has them"
MAX_DEPTH, MAX_DIGITS = 12, 30  # levels and characters of a number that the format leaves it


def apart(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is stored as tensors, and extra state that is none, both by name.

    Raises:
        WeightsError: extra state that does not come back from JSON as it was.
    """
    states = {
        name: value
        for name, value in weights.items()
        if isinstance(name, str) and name.rpartition(".")[2] == LAST and not isinstance(value, Tensor)
    }
    for name, value in states.items():
        if not _is_json(value):
            raise WeightsError(name, "extra state that a file can say", f"{type(value).__name__}: {value!r:.60}", HINT)
    return {name: value for name, value in weights.items() if name not in states}, states


def state_of(module: nn.Module, weights: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return weights as a state dict that the module itself might have given: with its extra state and its versions.

    Without these a module takes them for some of an older version, and refuses them (MNASNet) or changes them.
    """
    own = module.state_dict()
    found = OrderedDict({name: value for name, value in own.items() if not isinstance(value, Tensor)} | {**weights})
    found._metadata = getattr(own, "_metadata", {})  # type: ignore[attr-defined]
    return found


def states_in(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra state that a file says, by name."""
    told = facts.get(STATES)
    return dict(told) if isinstance(told, dict) else {}


def _is_json(value: object) -> bool:
    try:
        text = json.dumps(value, allow_nan=False)
        return _alike(json.loads(text), value) and _fits(value, MAX_DEPTH)
    except (TypeError, ValueError, RecursionError):
        return False


def _alike(a: Any, b: Any) -> bool:
    """Return whether values are equal, and of the same kinds: 1, 1.0 and True are not alike, a tuple is no list."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return bool(a == b)


def _fits(value: object, depth: int) -> bool:
    """Return whether a manifest has room for it: not too deep, no number too long."""
    if isinstance(value, dict | list):
        within = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_fits(part, depth - 1) for part in within)
    return isinstance(value, str | None) or len(json.dumps(value)) <= MAX_DIGITS
