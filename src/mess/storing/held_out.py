"""Inputs to measure on what a stored network has lost, and how accuracy on them is counted."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.scheme.learned import device_of, split_batches
from mess.scheme.learned.inputs import MAX_INPUTS


@dataclass(frozen=True)
class HeldOut:
    """Inputs to measure on what a stored network has lost.

    Attributes:
        labels: what is right; None: the float network is right with the probability that it gives to its own classes.
        learned_from: they are not held out, as there are too few of them.
        made_up: there were none, and these were made up.
    """

    inputs: Tensor
    labels: Tensor | None
    learned_from: bool = False
    made_up: bool = False

    def first(self, count: int | None) -> HeldOut:
        """Return the first `count` of them, or all."""
        return replace(
            self, inputs=self.inputs[:count], labels=self.labels[:count] if self.labels is not None else None
        )


def hold_out(inputs: Tensor, labels: Tensor | None, share: int) -> tuple[Tensor, HeldOut]:
    """Part what to learn from, `MAX_INPUTS`, from what to measure on: the rest, or one in `share` of fewer inputs.

    They are drawn: inputs may come class by class.
    """
    count = MAX_INPUTS if len(inputs) >= MAX_INPUTS + MAX_INPUTS // 4 else len(inputs) - len(inputs) // share
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    learned, held = order[:count], order[count:]
    return inputs[learned], HeldOut(inputs[held], labels[held] if labels is not None else None)


@torch.inference_mode()
def predict(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's outputs in eval mode and in float32, on the CPU; it is left as it is, and where it is."""
    module, device = copy.deepcopy(module).float().eval(), device_of(module)
    answers = [module(batch.to(device)) for batch in split_batches(inputs, device)]
    if not all(isinstance(answer, Tensor) for answer in answers):
        raise OptionError("--max-drop", "a network whose output is class scores", type(answers[0]).__name__)
    return torch.cat(answers).cpu()


def accuracy_lost(before: Tensor, stored: nn.Module, held_out: HeldOut) -> float:
    """Return points of accuracy that a stored network lost on inputs whose float scores are `before`.

    Raises:
        OptionError: outputs that are no class scores, or labels that are not theirs.
    """
    if before.dim() != 2:
        raise OptionError("--max-drop", "a network whose output is class scores", tuple(before.shape))
    was, now = before.argmax(1), predict(stored, held_out.inputs).argmax(1)
    if held_out.labels is not None:
        labels = held_out.labels
        right, chance = (was == labels).float().mean(), 1 / before.shape[1]
        if float(right) <= chance and before.shape[1] > 1:  # of other classes, or counted otherwise
            expected = "labels by which the float network is right more often than by chance"
            raise OptionError("--max-drop", expected, f"{100 * right:.1f} % right, of {before.shape[1]} classes")
        return 100 * float(right - (now == labels).float().mean())
    trust = before.softmax(1)
    return 100 * float((trust.gather(1, was[:, None]) - trust.gather(1, now[:, None])).mean())
