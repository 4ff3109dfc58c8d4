"""What a file says of its network, as plain facts that other formats can carry along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mess.data.info import KNOWN
from mess.errors import FormatError, OptionError
from mess.image_inputs import input_view
from mess.models.described import architecture_of, input_told
from mess.version import __version__


def facts_of(network: Mapping[str, Any] | None, scheme: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts by name: what wrote the file, the scheme, and of a network of the zoo what its input is.

    A network's mean, std and side are the file's, else those of its dataset, else ImageNet's, as in training.

    Raises:
        FormatError: a mean, std or side that cannot be.
    """
    facts: dict[str, Any] = {"producer": f"mess {__version__}", "scheme": scheme.get("version", "unknown")}
    if network is None:
        return facts
    architecture = architecture_of(network)
    known = KNOWN.get(architecture.dataset)
    try:
        view = input_view(input_told(network, scheme), architecture.dataset)
    except OptionError as error:
        raise FormatError("the file", "mean, std and sizes of images", error) from error
    facts |= {
        "network": architecture.slug,
        "dataset": known.name if known else "images in folders",
        "input": f"float32 N x 3 x {view.crop} x {view.crop}, R G B from 0 to 1, less the mean, over the std",
        "mean": [float(x) for x in view.mean],
        "std": [float(x) for x in view.std],
        "image_size": view.crop,
    }
    return facts
