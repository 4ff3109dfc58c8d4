"""Training a whole network through version 4: the loss and the bits fall together.

On all training images and for epochs: a loss, a price on the estimated bits, and integers and their code lengths that
are chosen anew on the way. Roundings pass gradients straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mess.arithmetic.step_exponents import NO_EXPONENTS, Exponents, steps_of
from mess.errors import CheckpointError
from mess.scheme.learned.learn import Learned, LearnedLayer, rebuild_layer
from mess.scheme.learned.rate_model import RateModel
from mess.scheme.learned.rounding import rounded
from mess.scheme.parametrized import OWN, Parametrized
from mess.scheme.ties import find_ties

REFRESH = 50  # steps between two looks at how long the integers' codes are
INSIDE = 0.45  # of a step: how near its edge a number may start in the bin that rounding chose for it
VECTOR_RATE = 0.1  # learning rate of steps, BatchNorm and biases, over that of the latent numbers


class RateTraining(Parametrized):
    """A network that computes with decoded weights, and knows what they cost.

    Args:
        model: changed in place.
        learned: integers, steps and references to start from.
        rate_weight: nats of loss that one bit a weight costs.
    """

    def __init__(self, model: nn.Module, learned: Learned, rate_weight: float = 0.0) -> None:
        super().__init__(model)
        self.learned, self.rate_weight = learned, rate_weight
        self.steps = 0
        ties = find_ties(model.state_dict())
        for name, layer in learned.layers.items():
            basis_TT = learned.bases[layer.basis] if layer.basis is not None else None
            latent = Latent(layer, basis_TT)
            first = ties.get(name, name)
            # layers that share the weight go on sharing it: the same latent tensor, the same step
            for same in dict.fromkeys((name, first, *(n for n, to in ties.items() if to == first))):
                self.attach(same, latent)
        self.rate_model = RateModel(self.latents(), REFRESH)
        self.numbers = sum(values_OCT.numel() for values_OCT in self.latents().values())

    def latents(self) -> dict[str, Tensor]:
        """Return the numbers that are trained, in steps, by the name of the weight."""
        return {name: self.latent(name) for name in self.learned.layers}

    def penalty(self) -> Tensor:
        """Return the price of the estimated bits."""
        return self.rate_weight * self.bits_per_weight()

    def bits_per_weight(self) -> Tensor:
        """Return the estimated bits of all integers over their number, differentiable."""
        return self.rate_model.bits(self.latents()) / self.numbers

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups for Adam: latent numbers, in steps, and all else at a tenth of their rate."""
        latent = list(self.latents().values())
        known = {id(p) for p in latent}
        others = [p for p in self.model.parameters() if id(p) not in known]
        return [{"params": latent}, {"params": others, "lr_scale": VECTOR_RATE}]

    @torch.no_grad()
    def after_step(self) -> None:
        """Look at the code lengths again when it is time."""
        self.steps += 1
        self.rate_model.after_step(self.steps, self.latents())

    @torch.no_grad()
    def current(self, plain: nn.Module) -> Learned:
        """Return the network as it is to be stored, in `plain`, a module of the same kind."""
        plain.load_state_dict({name: tensor.cpu() for name, tensor in self.plain_state_dict().items()})
        layers = {}
        for name, layer in self.learned.layers.items():
            values_OCT = self.latent(name).detach().cpu()
            step = float(self.computed(name).log_step.detach().exp().float())
            layers[name] = replace(
                layer, integers_OCT=rounded(values_OCT).to(torch.int32), step=step, unrounded_OCT=values_OCT
            )
            plain.get_parameter(name).copy_(rebuild_layer(layers[name], self.learned.bases))
        return Learned(layers, self.learned.bases, plain.eval())

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs beside the plain weights."""
        own = {name: tensor for name, tensor in self.model.state_dict().items() if OWN in name}
        model = self.rate_model
        rate_model = {"bits": model.bits_XA, "limit": model.limit, "places": model.places}
        bases = [[list(key), basis_TT] for key, basis_TT in self.learned.bases.items()]
        layers = {
            name: [
                layer.basis and list(layer.basis),
                list(layer.shape),
                [own_N if own_N is None else own_N.tolist() for own_N in layer.exponents],
            ]
            for name, layer in self.learned.layers.items()
        }
        return {"coded": own, "prices": rate_model, "steps": self.steps, "bases": bases, "layers": layers}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            CheckpointError: the state of another scheme or network.
        """
        rate_model = state.get("prices", {})
        if set(rate_model.get("places", ())) != set(self.learned.layers):
            raise CheckpointError("checkpoint", "a run with version v4", "another one, or none")
        self.model.load_state_dict(state["coded"], strict=False)
        self.rate_model.take(rate_model["bits"], rate_model.get("limit"), rate_model["places"])
        self.steps = int(state["steps"])


class Latent(nn.Module):
    """Latent numbers of a layer → the weight they stand for, as a parametrization of it.

    Attributes:
        start_OCT: what training starts with, multiples of the step in the bin that rounding chose, on the side where
            the number came from; their nearest integers are what is stored.
        log_step: () logarithm of the step.
        factors_OCT: by which the steps of rows, columns and terms differ from it, of a shape that broadcasts.
        basis_TT: rows are references; None: the numbers are the weights.
    """

    factors_OCT: Tensor
    basis_TT: Tensor | None

    def __init__(self, layer: LearnedLayer, basis_TT: Tensor | None) -> None:
        super().__init__()
        beside_OCT = (layer.unrounded_OCT - layer.integers_OCT).clamp(-INSIDE, INSIDE)
        self.start_OCT, self.shape = (layer.integers_OCT + beside_OCT).float(), layer.shape
        self.log_step = nn.Parameter(torch.tensor(math.log(layer.step)))
        self.register_buffer("factors_OCT", torch.from_numpy(steps_of(1.0, layer.exponents)), persistent=False)
        self.register_buffer("basis_TT", basis_TT.float() if basis_TT is not None else None, persistent=False)

    def forward(self, values_OCT: Tensor) -> Tensor:
        """Return the weight Σ_t q_t·s_t·R_t that is decoded, differentiable as if nothing had been rounded."""
        # in float32 whatever the forward pass computes in: training is to see what the file decodes to
        with torch.autocast(values_OCT.device.type, enabled=False):
            straight_OCT = values_OCT + (rounded(values_OCT) - values_OCT).detach()
            units_OCT = straight_OCT * (self.log_step.exp() * self.factors_OCT)
            return (units_OCT if self.basis_TT is None else units_OCT @ self.basis_TT).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return what training starts with, in place of the weight that was there."""
        return self.start_OCT.to(weight.device)


def resumed_start(state: Mapping[str, Any], model: nn.Module) -> Learned:
    """Return what `RateTraining` needs to be put together again before it takes up `state`.

    Raises:
        CheckpointError: the state of another scheme.
    """
    if "bases" not in state:
        raise CheckpointError("checkpoint", "a run with version v4", "another one, or none")
    layers = {}
    for name, (basis, shape, *more) in state["layers"].items():
        coded = f"{name.removesuffix('weight')}{OWN[1:]}"
        values_OCT = state["coded"][f"{coded}original"]
        step = float(state["coded"][f"{coded}0.log_step"].exp())
        key = tuple(basis) if basis else None
        # runs before format 1.1 had one step a layer
        exponents = Exponents(*(own_N if own_N is None else np.array(own_N) for own_N in (more or [NO_EXPONENTS])[0]))
        integers_OCT = rounded(values_OCT).to(torch.int32)
        layers[name] = LearnedLayer(integers_OCT, step, key, tuple(shape), values_OCT, exponents)
    return Learned(layers, {tuple(key): basis_TT for key, basis_TT in state["bases"]}, model)
