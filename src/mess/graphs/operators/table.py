"""What the tables of operators share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


class UnknownError(Exception):
    """A way of using an operator that is not known here; the network is stored without a look."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of a node, as Python's numbers, text and lists; tensors as torch's.

    Attributes:
        opset: of the model, which some defaults depend on.
        outputs: how many the node has.
    """

    values: Mapping[str, Any]
    opset: int
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where it is not given."""
        return self.values.get(name, default)

    def numbers(self, name: str, given: Tensor | None, default: Any = None) -> Any:
        """Return whole numbers that are an attribute, or (in later opsets) an input."""
        return [int(x) for x in given.reshape(-1).tolist()] if given is not None else self.get(name, default)


Operator = Callable[..., Any]  # (Attributes, *inputs) → a tensor, or a tuple of them
