"""Writes src/mess/layouts.json: names and shapes of the usual networks, as the zoo has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from mess.fetch.weights import public_weights
from mess.layouts import VECTORS, key_of
from mess.models import Architecture, layout, networks, resolve

FILE = Path(__file__).parents[1] / "src" / "mess" / "layouts.json"


def usual() -> dict[str, Architecture]:
    """Return the networks of the specification's tables and those with public weights, once each, by key."""
    made = [network for dataset in ("cifar10", "imagenet") for network in networks(dataset)]
    for one in public_weights():
        dataset = "cifar10" if one.dataset == "cifar100" else one.dataset
        made.append(resolve(one.arch, dataset, layers=one.layers, width_mult=one.width_mult, groups=one.groups))
    return {str(key_of(network.to_dict())): network for network in made}


def entries(architecture: Architecture) -> list[str]:
    """Return a network's lines; its number of classes is what changes with it."""
    pair = (layout(replace(architecture, num_classes=classes)) for classes in (977, 983))  # no width of any layer
    found: list[str] = []
    for (name, shape, dtype), (_, other, _) in zip(*pair, strict=True):
        kind = name.rpartition(".")[2]
        if dtype == "int64":
            assert kind == "num_batches_tracked"
            prefix, channels = name.rpartition(".")[0], found[-1].rpartition(" ")[2]
            assert found[-4:] == [f"{prefix}.{vector} {channels}" for vector in VECTORS]
            found[-4:] = [f"{prefix} *{channels}"]
            continue
        assert dtype == "float32"
        found.append(f"{name} {'x'.join(str(n) if n == m else 'N' for n, m in zip(shape, other, strict=True))}")
    return found


if __name__ == "__main__":
    found = {key: json.dumps(entries(network), separators=(",", ":")) for key, network in usual().items()}
    lines = [f"{json.dumps(key)}:{text}" for key, text in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
