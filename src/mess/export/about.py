"""What a file says of its network, as plain facts that other formats can carry along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, KNOWN
from mess.models.described import architecture_of
from mess.version import __version__

IMAGE_SIDE = 224  # of what a network for images in folders sees


def facts_of(network: Mapping[str, Any] | None, scheme: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts by name: what wrote the file, the scheme, and of a network of the zoo what its input is.

    A network's mean and std are the file's, else those of its dataset, else ImageNet's, as in training.
    """
    facts: dict[str, Any] = {"producer": f"mess {__version__}", "scheme": scheme.get("version", "unknown")}
    if network is None:
        return facts
    architecture = architecture_of(network)
    known = KNOWN.get(architecture.dataset)
    side = known.image_size if known else IMAGE_SIDE
    facts |= {
        "network": architecture.slug,
        "dataset": known.name if known else "images in folders",
        "input": f"float32 N x 3 x {side} x {side}, R G B from 0 to 1, less the mean, over the std",
        "mean": [float(x) for x in network.get("mean") or (known.mean if known else IMAGENET_MEAN)],
        "std": [float(x) for x in network.get("std") or (known.std if known else IMAGENET_STD)],
        "image_size": side,
    }
    return facts
