"""A network whose weights are computed from what is stored: how it gives and takes them under their own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mess.errors import CheckpointError

LATENT = "parametrizations.weight.original"
OWN = ".parametrizations.weight."


class Parametrized:
    """The part that all ways of training through what is stored share.

    Attributes:
        model: the network, changed in place; `detach` undoes it.
        layers: by name of the weight, the module that owns it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers: dict[str, nn.Module] = {}

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

    def detach(self) -> None:
        """Leave the network plain, with the weights it computes with."""
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def _parametrization(self, name: str) -> parametrize.ParametrizationList:
        return self.layers[name].parametrizations["weight"]  # type: ignore[index, return-value]


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
