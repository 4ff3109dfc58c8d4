"""What is to be stored: names and tensors, the module that says their kinds, and which network of the zoo it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mess import models
from mess.errors import WeightsError
from mess.models import Architecture
from mess.scheme import check_weights, find_ties


@dataclass(frozen=True)
class Network:
    """A network as it was given.

    Attributes:
        weights: by name, in the network's order.
        module: says of what kind layers are; None for a state dict of a network that is not in the zoo.
        architecture: which network of the zoo it is.
        tied: name → earlier name of the same tensor.
    """

    weights: dict[str, Tensor]
    module: nn.Module | None
    architecture: Architecture | None
    tied: dict[str, str]


def identify(network: nn.Module | Mapping[str, Tensor], architecture: Architecture | None = None) -> Network:
    """Find out what is to be stored.

    A bare state dict of the zoo gets a module to say kinds and order; any other keeps its own order.

    Raises:
        WeightsError: a tensor that no file can hold, or weights that are not `architecture`'s, by name.
    """
    module: nn.Module | None = None
    if isinstance(network, nn.Module):
        weights, module = dict(network.state_dict()), network
        architecture = architecture or getattr(network, "architecture", None)
    else:
        weights = dict(network)
        if architecture is None:
            shapes = {name: tuple(t.shape) for name, t in weights.items() if isinstance(t, Tensor)}
            architecture = models.recognise(shapes)
    check_weights(weights)
    if module is None and architecture is not None:
        weights = _in_order(weights, architecture)
        module = models.build(architecture, initialised=False)
        module.load_state_dict(weights)
    return Network(weights, module, architecture, find_ties(weights))


def _in_order(weights: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Return the weights in the order of the architecture, with counters of batches where old files have none."""
    ordered = {}
    for name, shape, _ in models.layout(architecture):
        if name not in weights and name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.int64)
        if name not in weights or tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape) if name in weights else "none"
            raise WeightsError(name, f"shape {shape}, as {architecture.slug} has it", found)
        ordered[name] = weights[name]
    if extra := sorted(weights.keys() - ordered.keys()):
        raise WeightsError(extra[0], f"only the tensors of {architecture.slug}", "one more")
    return ordered
