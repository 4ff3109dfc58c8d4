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
MAX_MIXTURES = 3  # of each input: where inputs are fewer there are more, as single answers say little
MIXTURE_SEED = 1  # and up: others than those that sensitivities are weighed on
NOISE = 90.0  # percent of agreement, below which a network is to be warned of


@dataclass(frozen=True)
class Look:
    """How a stored network answers on inputs and on mixtures of two of them, which it cannot have memorised.

    Attributes:
        inputs: looked at, mixtures not counted.
        held_out: nothing was learned from them; a file answers better on those that it was learned from.
        divergence: of class scores the Kullback-Leibler divergence from the float network's, nats; of other outputs
            the squared error over the variance. The mean over outputs.
        agreement: percent of inputs for which the largest score is of the same class; None: no output is class scores.
    """

    inputs: int
    divergence: float
    agreement: float | None
    held_out: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what the file says of it: how many `inputs` learned from, or `held_out`, and the rest by name."""
        which = "held_out" if self.held_out else "inputs"
        told = {which: self.inputs, "divergence": float(f"{self.divergence:.3g}")}
        return told if self.agreement is None else {**told, "agreement": round(self.agreement, 2)}

    def __str__(self) -> str:
        what = "" if self.agreement is None else f"{self.agreement:.2f} % decided as the float network does, "
        kind = "relative squared error" if self.agreement is None else "divergence"
        unit = "" if self.agreement is None else " nats"
        which = "held out" if self.held_out else "learned from"
        return f"{what}{kind} {self.divergence:.3g}{unit}, on {self.inputs:,} inputs {which} and mixtures of them"

    @property
    def is_noise(self) -> bool:
        """Whether little is left of the network."""
        return self.agreement < NOISE if self.agreement is not None else self.divergence > 1 - NOISE / 100


class FloatNetwork:
    """A float network in eval mode and float32, where it is, to look at stored ones beside it; what is given stays.

    Args:
        held_out: nothing is learned from these inputs.
    """

    @torch.no_grad()
    def __init__(self, module: nn.Module, inputs: Tensor, *, held_out: bool) -> None:
        self._module = copy.deepcopy(module).float().eval()
        self._inputs, self._held_out = inputs[:MAX_INPUTS], held_out
        self._outputs = known_outputs(self._module, self._inputs)
        rounds = min(MAX_MIXTURES, 2 * MAX_INPUTS // len(self._inputs) - 1) if held_out else 1
        self._mixed = torch.cat([mixtures(self._inputs, MIXTURE_SEED + i) for i in range(rounds)])

    @torch.no_grad()
    def look(self, weights: Mapping[str, Tensor]) -> Look:
        """Run the network with its own weights and with those that are stored; inputs and mixtures count alike."""
        stored = copy.deepcopy(self._module)
        stored.load_state_dict(dict(weights))
        (plain, same), (strange, strange_same) = (self._beside(stored, x) for x in (self._inputs, self._mixed))
        scored = any(output.scores for output in self._outputs)
        agreement = 50 * (same + strange_same) if scored else None
        return Look(len(self._inputs), (plain + strange) / 2, agreement, self._held_out)

    def _beside(self, stored: nn.Module, inputs: Tensor) -> tuple[float, float]:
        """Return the divergence, the mean over outputs, and the share of inputs decided alike (by the first scores)."""
        strayed, agreeing, device = 0.0, 0.0, device_of(stored)
        scored = next((place for place, output in enumerate(self._outputs) if output.scores), None)
        for batch in split_batches(inputs, device):
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
        return strayed / len(inputs), agreeing / len(inputs)
