"""What a stored network still answers: the very weights that the file decodes to, run beside the float network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mess.scheme.learned import device_of, known_outputs, mixtures, split_batches, tensors

MAX_INPUTS = 256  # looked at, and as many mixtures of two
MIXTURE_SEED = 1  # others than those that sensitivities are weighed on
NOISE = 90.0  # percent of agreement, below which a network is to be warned of


@dataclass(frozen=True)
class Look:
    """How a stored network answers on inputs and on mixtures of two of them, which it cannot have memorised.

    Attributes:
        inputs: looked at, mixtures not counted.
        divergence: of class scores the Kullback-Leibler divergence from the float network's, nats; of other outputs
            the squared error over the variance. The mean over outputs.
        agreement: percent of inputs for which the largest score is of the same class; None: no output is class scores.
    """

    inputs: int
    divergence: float
    agreement: float | None

    def facts(self) -> dict[str, Any]:
        """Return what the file says of it."""
        told = {"inputs": self.inputs, "divergence": float(f"{self.divergence:.3g}")}
        return told if self.agreement is None else {**told, "agreement": round(self.agreement, 2)}

    def __str__(self) -> str:
        what = "" if self.agreement is None else f"{self.agreement:.2f} % decided as the float network does, "
        kind = "relative squared error" if self.agreement is None else "divergence"
        unit = "" if self.agreement is None else " nats"
        return f"{what}{kind} {self.divergence:.3g}{unit}, on {self.inputs:,} inputs and mixtures of them"

    @property
    def is_noise(self) -> bool:
        """Whether little is left of the network."""
        return self.agreement < NOISE if self.agreement is not None else self.divergence > 1 - NOISE / 100


class FloatNetwork:
    """A float network in eval mode and float32, where it is, to look at stored ones beside it; what is given stays."""

    @torch.no_grad()
    def __init__(self, module: nn.Module, inputs: Tensor) -> None:
        self._module = copy.deepcopy(module).float().eval()
        self.inputs = inputs[:MAX_INPUTS]
        self._outputs = known_outputs(self._module, self.inputs)

    @torch.no_grad()
    def look(self, weights: Mapping[str, Tensor]) -> Look:
        """Run the network with its own weights and with those that are stored, on the inputs and mixtures of them."""
        stored = copy.deepcopy(self._module)
        stored.load_state_dict(dict(weights))
        both = torch.cat([self.inputs, mixtures(self.inputs, MIXTURE_SEED)])
        strayed, agreeing, device = 0.0, 0.0, device_of(stored)
        scored = next((place for place, output in enumerate(self._outputs) if output.scores), None)
        for batch in split_batches(both, device):
            batch = batch.to(device)
            pairs = list(zip(self._outputs, tensors(self._module(batch)), tensors(stored(batch)), strict=True))
            for output, wanted, found in pairs:
                wanted, found = wanted.float(), found.float()
                if output.scores:
                    log_p, log_q = wanted.log_softmax(1), found.log_softmax(1)
                    each = (log_p.exp() * (log_p - log_q)).sum() / len(self._outputs)
                else:  # over the variance, as `nats` is of an output that is no scores
                    each = len(batch) * torch.as_tensor(output.strayed(found - wanted))
                strayed += float(each)
            if scored is not None:
                _, wanted, found = pairs[scored]
                agreeing += float((wanted.argmax(1) == found.argmax(1)).sum())
        agreement = None if scored is None else 100 * agreeing / len(both)
        return Look(len(self.inputs), strayed / len(both), agreement)
