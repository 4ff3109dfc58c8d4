"""What is to be stored: names and tensors, the module that says their kinds, and which network of the zoo it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess import models
from mess.codec.model import joined
from mess.errors import WeightsError
from mess.extra_state import apart
from mess.foreign.nested import MAX_DEPTH, common_prefix, without_compile_marks
from mess.foreign.wrappers import plain_module
from mess.models import Architecture
from mess.scheme import check_weights, find_ties
from mess.scheme.order import in_natural_order
from mess.storing.layers import Asked


@dataclass(frozen=True)
class Network:
    """A network as it was given.

    Attributes:
        weights: by name, in the network's order.
        module: says of what kind layers are; None for a state dict of a network that is not in the zoo.
        architecture: which network of the zoo it is.
        tied: name → earlier name of the same tensor.
        graph: what it computes, where it came as an ONNX model.
        unseen: why it cannot be looked at; "" where it can, or is not known to be impossible.
        beyond: buffers with NaN, infinity or numbers beyond float32, which stay as they are whatever is asked.
        states: extra state of modules that is no tensor, by name.
        asked: what is asked of single tensors, by name; of all others the options say what is done.
    """

    weights: dict[str, Tensor]
    module: nn.Module | None
    architecture: Architecture | None
    tied: dict[str, str]
    graph: bytes | None = None
    unseen: str = ""
    beyond: frozenset[str] = frozenset()
    states: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Asked] = field(default_factory=dict)

    @property
    def kept(self) -> frozenset[str]:
        """The tensors that are to stay as they are."""
        return self.beyond | {name for name, asked in self.asked.items() if asked.keep}

    @property
    def buffers(self) -> frozenset[str]:
        """The tensors that are no parameters, as far as is known: grids, tables, what nobody trained to bear errors."""
        return frozenset(name for name, _ in self.module.named_buffers()) if self.module is not None else frozenset()

    @property
    def finer(self) -> dict[str, float]:
        """The tensors whose steps are to be smaller, and by what factor."""
        return {name: asked.finer for name, asked in self.asked.items() if asked.finer != 1.0}


def identify(network: nn.Module | Mapping[str, Tensor], architecture: Architecture | None = None) -> Network:
    """Find out what is to be stored.

    A bare state dict of the zoo gets a module to say kinds and order; any other comes in the natural order of names,
    so that the same weights are stored alike from whatever container. Wrappers of modules are taken off.

    Raises:
        WeightsError: a tensor that no file can hold, or weights that are not `architecture`'s, by name.
    """
    module: nn.Module | None = None
    states: Mapping[str, Any] = {}
    if isinstance(network, torch.jit.ScriptModule):
        network = network.state_dict()  # a script does not say of what kind its layers are
    if isinstance(network, nn.Module):
        module = plain_module(network)
        weights, states = apart(module.state_dict())
        beyond = check_weights(weights, {name for name, _ in module.named_parameters(remove_duplicate=False)})
        architecture = architecture or _own_architecture(module, weights)
    else:
        if isinstance(network, Mapping):
            network, states = apart(network)
        check_weights(network)  # under the names that its owner knows
        plain = without_compile_marks(network)
        weights, architecture = _recognised({name: plain[name] for name in in_natural_order(plain)}, architecture)
        beyond = check_weights(weights)
    if module is None and architecture is not None:
        weights = _in_order(weights, architecture)
        module = models.build(architecture, initialised=False)
        module.load_state_dict(weights)
    _check_variances(weights, module)
    graph = getattr(module, "graph", None)
    graph = graph if isinstance(graph, bytes) else None
    return Network(weights, module, architecture, find_ties(weights), graph, beyond=beyond, states=states)


def _own_architecture(module: nn.Module, weights: Mapping[str, Tensor]) -> Architecture | None:
    """Return what network of the zoo a module says it is, unless it was changed since: a new head, pruned channels."""
    named = getattr(module, "architecture", None)
    if not isinstance(named, Architecture):  # a name that others may well give to something of theirs
        return None
    shapes = {name: shape for name, shape, _ in models.layout(named)}
    return named if {name: tuple(tensor.shape) for name, tensor in weights.items()} == shapes else None


def _check_variances(weights: Mapping[str, Tensor], module: nn.Module | None) -> None:
    """Refuse BatchNorm layers whose answers are no numbers."""
    for prefix, layer in () if module is None else module.named_modules():
        name = joined(prefix, "running_var")
        if isinstance(layer, _BatchNorm) and name in weights and weights[name].numel():
            lowest = float(weights[name].min())
            if lowest + layer.eps <= 0:
                raise WeightsError(name, "variances of at least 0", f"{lowest:.3g}")


def _recognised(
    weights: dict[str, Tensor], architecture: Architecture | None
) -> tuple[dict[str, Tensor], Architecture | None]:
    """Return weights and what network of the zoo they are; if one, without a first part of all names (``model.``)."""
    plain = weights
    for _ in range(MAX_DEPTH):
        if architecture is not None and models.layout(architecture)[0][0] in plain:
            return plain, architecture
        found = models.recognise({name: tuple(t.shape) for name, t in plain.items()}) if architecture is None else None
        if found is not None:
            return plain, found
        if not (prefix := common_prefix(plain)):
            break
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return weights, architecture


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
