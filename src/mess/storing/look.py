"""What a stored network still answers: the very weights that the file decodes to, run beside the float network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mess.extra_state import state_of
from mess.scheme.learned import check_alike, device_of, known_outputs, mixtures, split_batches, tensors

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
        made_up: they were learned from and are no inputs of anybody's: there were none.
        divergence: of class scores the Kullback-Leibler divergence from the float network's, nats; of other outputs
            the squared error over the variance. The mean over outputs.
        agreement: percent of inputs for which the largest score is of the same class; None: no output is class scores.
        error: squared error over variance of an output of two or three numbers, which may be class scores or values;
            None: there is none.
    """

    inputs: int
    divergence: float
    agreement: float | None
    held_out: bool = False
    error: float | None = None
    made_up: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what the file says: how many `inputs` learned from, `held_out` or `made_up`, and the rest by name."""
        which = "held_out" if self.held_out else "made_up" if self.made_up else "inputs"
        told = {which: self.inputs, "divergence": float(f"{self.divergence:.3g}")}
        error = {} if self.error is None else {"error": float(f"{self.error:.3g}")}
        return told if self.agreement is None else {**told, "agreement": round(self.agreement, 2), **error}

    def __str__(self) -> str:
        what = "" if self.agreement is None else f"{self.agreement:.2f} % decided as the float network does, "
        kind = "relative squared error" if self.agreement is None else "divergence"
        unit = "" if self.agreement is None else " nats"
        unit += "" if self.error is None else f", relative squared error {self.error:.3g}"
        which = "inputs held out" if self.held_out else "made-up inputs" if self.made_up else "inputs learned from"
        return f"{what}{kind} {self.divergence:.3g}{unit}, on {self.inputs:,} {which} and mixtures of them"

    @property
    def is_noise(self) -> bool:
        """Whether little is left of the network."""
        wrong = self.divergence if self.agreement is None else self.error or 0.0
        return (self.agreement is not None and self.agreement < NOISE) or wrong > 1 - NOISE / 100


class FloatNetwork:
    """A float network in eval mode and float32, where it is, to look at stored ones beside it; what is given stays.

    Args:
        held_out: nothing is learned from these inputs.
        made_up: they were made up.
    """

    @torch.no_grad()
    def __init__(self, module: nn.Module, inputs: Tensor, *, held_out: bool, made_up: bool = False) -> None:
        self._module = copy.deepcopy(module).float().eval()
        self._inputs, self._held_out, self._made_up = inputs[:MAX_INPUTS], held_out, made_up
        self._outputs = known_outputs(self._module, self._inputs)
        rounds = min(MAX_MIXTURES, 2 * MAX_INPUTS // len(self._inputs) - 1) if held_out else 1
        self._mixed = torch.cat([mixtures(self._inputs, MIXTURE_SEED + i) for i in range(rounds)])

    @torch.no_grad()
    def look(self, weights: Mapping[str, Tensor]) -> Look:
        """Run the network with its own weights and with those that are stored; inputs and mixtures count alike."""
        stored = copy.deepcopy(self._module)
        stored.load_state_dict(state_of(stored, weights))
        both = (self._beside(stored, x) for x in (self._inputs, self._mixed))
        strayed, alike, error = (sum(pair) / 2 for pair in zip(*both, strict=True))
        agreement = 100 * alike if any(output.scores for output in self._outputs) else None
        error = error if self.doubtful else None
        return Look(len(self._inputs), strayed, agreement, self._held_out, error, self._made_up)

    @torch.no_grad()
    def repeats(self) -> bool:
        """Return whether the network answers alike each time it runs."""
        batch = self._inputs[:2].to(device_of(self._module))
        return all(torch.equal(*pair) for pair in zip(*(tensors(self._module(batch)) for _ in range(2)), strict=True))

    @property
    def doubtful(self) -> bool:
        """Whether some output may be class scores or values."""
        return any(output.doubtful for output in self._outputs)

    def _beside(self, stored: nn.Module, inputs: Tensor) -> tuple[float, float, float]:
        """Return how far answers stray, the share of inputs decided alike, and the error of what is doubtful.

        The first is the mean over outputs, the second that of the first scores, the last the largest.
        """
        strayed, agreeing, device = 0.0, 0.0, device_of(stored)
        errors = [0.0 for _ in self._outputs]
        scored = next((place for place, output in enumerate(self._outputs) if output.scores), None)
        for batch in split_batches(inputs, device):
            batch = batch.to(device)
            own, decoded = tensors(self._module(batch)), tensors(stored(batch))
            check_alike([x[None] for x in own], [x[None] for x in decoded])
            answers = zip(self._outputs, own, decoded, strict=True)
            pairs = [(output.told(wanted), output.told(found)) for output, wanted, found in answers]
            for place, (output, (wanted, found)) in enumerate(zip(self._outputs, pairs, strict=True)):
                strayed += len(batch) * float(output.strayed(wanted, found)) / len(pairs)
                errors[place] += len(batch) * float(output.error(wanted, found)) if output.doubtful else 0.0
            if scored is not None:
                wanted, found = pairs[scored]
                agreeing += float((wanted.argmax(1) == found.argmax(1)).sum())
        return strayed / len(inputs), agreeing / len(inputs), max(errors, default=0.0) / len(inputs)
