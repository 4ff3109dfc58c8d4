"""What a `.mess` file says of its network, and what follows from it: the names and shapes that it need not store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mess.errors import FormatError, OptionError
from mess.models.architecture import Architecture
from mess.models.zoo import layout

SIZES = ("resize", "crop")
# what a description carries beside the fields of `Architecture`: the images that the network was trained on
INPUT_FACTS = ("mean", "std", "classes", *SIZES)
MAX_SIDE = 1 << 14  # pixels


def layout_of(network: dict[str, Any]) -> list[tuple[str, tuple[int, ...], str]]:
    """Return names, shapes and dtypes of the network that a file names.

    Raises:
        FormatError: it names none that exists.
    """
    return layout(architecture_of(network))


def architecture_of(network: Mapping[str, Any]) -> Architecture:
    """Return the architecture a file names; see `layout_of`."""
    try:
        return Architecture.from_dict({name: value for name, value in network.items() if name not in INPUT_FACTS})
    except OptionError as error:
        raise FormatError("network", "a network of the zoo", error) from error


def describe(
    architecture: Architecture | None, about: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return what a file says of the network, `INPUT_FACTS` with it, and the facts left for the scheme.

    Raises:
        OptionError: see `check_sizes`.
    """
    check_sizes(about)
    facts = dict(about)
    if architecture is None:
        return None, facts
    return architecture.to_dict() | {name: facts.pop(name) for name in INPUT_FACTS if name in facts}, facts


def input_told(network: Mapping[str, Any] | None, scheme: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of the images its network was made for: `INPUT_FACTS`, as far as it says them.

    They lie with the network where that is of the zoo, else with the scheme; sizes lay there in all files once.
    """
    said = {**scheme, **(network or {})}
    return {name: said[name] for name in INPUT_FACTS if said.get(name) is not None}


def check_sizes(facts: Mapping[str, Any]) -> None:
    """Refuse sizes that no image can have.

    Raises:
        OptionError: names the one.
    """
    for name in SIZES:
        side = facts.get(name)
        if side is not None and not (type(side) is int and 0 < side <= MAX_SIDE):
            raise OptionError(name, f"a whole number of pixels from 1 to {MAX_SIDE:,}", side)
