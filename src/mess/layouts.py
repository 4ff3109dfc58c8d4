"""Names and shapes of the usual networks of the zoo, known without torch: `mess inspect` answers at once.

`layouts.json` has one list a network, of the tensors in the order of its state dict: ``NAME OxIxKxK``, with N in place
of the number of classes, or ``NAME *C`` for the five tensors of a BatchNorm of C channels. Of any other network the zoo
itself is asked. `tests/make_layouts.py` writes the file, and a test compares it with the zoo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

Layout = list[tuple[str, tuple[int, ...], str]]

CIFAR_FORM = ("cifar10", "cifar100", "digits")
VECTORS = ("weight", "bias", "running_mean", "running_var")
MAX_CLASSES, MAX_WIDTH_MULT = 10**6, 64


def key_of(network: Mapping[str, Any]) -> str | None:
    """Return the entry of a network that a file names, whatever its number of classes; None: the file says nonsense."""
    kinds: dict[str, tuple[type, ...]] = {
        "arch": (str,), "dataset": (str,), "layers": (int, type(None)), "width_mult": (int, float),
        "groups": (int, type(None)),
    }  # fmt: skip
    if not all(type(network.get(name, ...)) in types for name, types in kinds.items()):
        return None
    if not 0 < network["width_mult"] <= MAX_WIDTH_MULT:  # JSON may hold 10^400
        return None
    form = "cifar" if network["dataset"] in CIFAR_FORM else "imagenet"
    return json.dumps([network["arch"], form, network["layers"], network["width_mult"] * 1.0, network["groups"]])


def known_layout(network: Mapping[str, Any]) -> Layout | None:
    """Return (name, shape, dtype) of every tensor of a network, or None where it is none of the usual ones."""
    key, classes = key_of(network), network.get("num_classes")
    if key not in _table() or type(classes) is not int or not 1 <= classes <= MAX_CLASSES:
        return None
    found: Layout = []
    for entry in _table()[key]:
        name, _, form = entry.partition(" ")
        if form.startswith("*"):
            found += [(f"{name}.{vector}", (int(form[1:]),), "float32") for vector in VECTORS]
            found.append((f"{name}.num_batches_tracked", (), "int64"))
        else:
            found.append((name, tuple(classes if n == "N" else int(n) for n in form.split("x")), "float32"))
    return found


@lru_cache(maxsize=1)
def _table() -> dict[str, list[str]]:
    return json.loads(Path(__file__).with_name("layouts.json").read_text(encoding="utf-8"))
