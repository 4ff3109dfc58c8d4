"""Networks that train through what is stored: one interface, which each scheme's `training` implements.

`latent` numbers are trained, a module of each layer computes the weight from them (torch's parametrizations).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mess.errors import CheckpointError

OWN = ".parametrizations.weight."


class Parametrized:
    """A network in training whose weights are computed from what is stored: the part that all ways of doing so share.

    Attributes:
        model: the network, changed in place; `detach` undoes it.
        layers: by name of the weight, the module that owns it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: dict[str, nn.Module] = {}

    def before_epoch(self, epoch: int) -> None:
        """Choose anew what is not learned by gradients; epochs count from 0."""

    def penalty(self) -> Tensor | None:
        """Return a term for the loss, or None."""
        return None

    def after_step(self) -> None:
        """Look at the state of training after a step of the optimizer."""

    def parameter_groups(self) -> list[dict[str, Any]] | None:
        """Return groups for Adam, or None for the usual optimizer."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs beside the plain weights: plain tensors, numbers, strings, containers of them."""
        return {"latent": {name: self.latent(name).detach() for name in self.layers}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            CheckpointError: the state of another scheme or network.
        """
        if set(state.get("latent", ())) != set(self.layers):
            raise CheckpointError("checkpoint", "a run with this scheme", "another one, or none")
        for name in self.layers:
            self.latent(name).copy_(state["latent"][name])

    def attach(self, name: str, computed: nn.Module) -> None:
        """Let the layer of this weight use what `computed` makes of its latent numbers."""
        self.layers[name] = owner(self.model, name)
        parametrize.register_parametrization(self.layers[name], "weight", computed, unsafe=True)

    def latent(self, name: str) -> Tensor:
        """Return the numbers that are trained in place of a weight."""
        return self._parametrization(name).original

    def computed(self, name: str) -> Any:
        """Return what `attach` was given."""
        return self._parametrization(name)[0]

    @torch.no_grad()
    def plain_state_dict(self) -> dict[str, Tensor]:
        """Return the weights the network computes with, under its own names."""
        return plain_state_dict(self.model)

    @torch.no_grad()
    def load_plain(self, state: Mapping[str, Tensor]) -> None:
        """Take up weights under the network's own names; layers in `layers` keep their latent numbers.

        Raises:
            CheckpointError: names that are missing or not expected.
        """
        kept = {name: tensor for name, tensor in self.model.state_dict().items() if OWN in name}
        others = {name: tensor for name, tensor in state.items() if name not in self.layers}
        try:
            self.model.load_state_dict({**others, **kept})
        except RuntimeError as error:
            raise CheckpointError("checkpoint", "the weights of this network", str(error).splitlines()[-1]) from error

    @contextmanager
    def showing(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the network compute with these weights, under its own names, for the length of a ``with`` block."""
        kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items() if OWN not in name}
        computed = {name: self.computed(name) for name in self.layers}
        for name in self.layers:
            self._parametrization(name)[0] = _Fixed(weights[name].to(self.latent(name).device))
        self.model.load_state_dict({name: weights[name] for name in kept}, strict=False)
        try:
            yield
        finally:
            for name, module in computed.items():
                self._parametrization(name)[0] = module
            self.model.load_state_dict(kept, strict=False)

    def detach(self) -> None:
        """Leave the network plain, with the weights it computes with."""
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def _parametrization(self, name: str) -> parametrize.ParametrizationList:
        return self.layers[name].parametrizations["weight"]  # type: ignore[index, return-value]


class _Fixed(nn.Module):
    """Stands in for a parametrization: the same weight, whatever is trained."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, _latent: Tensor) -> Tensor | nn.Module:
        """Return the weight."""
        return self.weight


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights under plain names, parametrised ones as they are computed with."""
    plain = {}
    for name, tensor in model.state_dict().items():
        prefix, own, part = name.partition(OWN)
        if not own:
            plain[name] = tensor
        elif part == "original":
            weight: Tensor = model.get_submodule(prefix).weight  # type: ignore[assignment]
            plain[f"{prefix}.weight"] = weight.detach()
    return plain


def owner(model: nn.Module, name: str) -> nn.Module:
    """Return the module that has this weight."""
    return model.get_submodule(name.rpartition(".")[0])
