"""What the searches for a rate of version 4 have in common: rounding at a rate, and seeing what has come of it.

A *draft* is a network rounded after a look at a few inputs: it takes seconds, is as large as the real one within some
per cent, and loses more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from mess import codec
from mess.codec import StoredModel
from mess.errors import RangeError
from mess.extra_state import state_of
from mess.scheme.learned import LearnOptions, StageProgress, no_progress
from mess.storing.entries import Coded
from mess.storing.held_out import HeldOut, accuracy_lost, predict
from mess.storing.load import to_tensors
from mess.storing.look import MAX_INPUTS as MAX_LOOKED_AT
from mess.storing.look import FloatNetwork, Look

USUAL_LOOK = Look(MAX_LOOKED_AT, 1.23e-05, 98.76, held_out=True)  # takes about as many bytes as what is seen in the end
SPARE = 12  # bytes that it may take more
DRAFT_INPUTS = 128
DRAFTS = 8  # at most, to find a rate
MIN_DIVERGENCE, MAX_DIVERGENCE = 1e-6, 10.0  # nats
NONE_FINER: Mapping[str, float] = {}


@dataclass(frozen=True)
class Search:
    """What is known of a network to be stored, and how to store it at a rate.

    Attributes:
        module: where it is, it is looked at.
        inputs: what it is looked at with.
        held_out: other inputs, which what it lost is measured on.
        learning: all but the rate.
        rounded: (inputs, learning, progress) → the network in the codec's form.
        write: makes of that the whole of what is written.
        layout: says names and shapes that the file need not say.
        progress: told which round of how many it is, and how far that has come.
    """

    module: nn.Module
    inputs: Tensor
    held_out: HeldOut
    learning: LearnOptions
    rounded: Callable[[Tensor, LearnOptions, StageProgress], Coded]
    write: Callable[[Coded], StoredModel]
    layout: codec.Layout | None
    progress: StageProgress = no_progress

    def rounded_at(
        self, divergence: float, what: str, *, count: int | None = None, finer: Mapping[str, float] = NONE_FINER
    ) -> Coded:
        """Round the network at a rate.

        Args:
            what: names the round.
            count: look at the first of the inputs; None: at all.
            finer: layers whose steps are smaller by these factors still.
        """
        both = {name: factor * self.learning.finer.get(name, 1.0) for name, factor in finer.items()}
        learning = replace(self.learning, divergence=divergence, finer={**self.learning.finer, **both})

        def tell(stage: str, done: int, total: int) -> None:
            self.progress(f"{what}: {stage}", done, total)

        return self.rounded(self.inputs[:count], learning, tell)

    def look(self, coded: Coded) -> Look:
        """Return what a file still answers on the inputs held out, or on those learned from where none are.

        Raises:
            RangeError: no number, as answers on these inputs are beyond float32.
        """
        self.progress("looking at what it answers", 0, 0)
        found = self.float_network.look(to_tensors(self.write(coded)))
        if not math.isfinite(found.divergence):
            raise RangeError("answers")
        return found

    @cached_property
    def float_network(self) -> FloatNetwork:
        """The float network, to look at stored ones beside it."""
        held = self.held_out
        return FloatNetwork(self.module, held.inputs, held_out=not held.learned_from, made_up=held.made_up)

    def size(self, coded: Coded) -> int:
        """Return the bytes of the file, once it says what was seen of it."""
        look = replace(USUAL_LOOK, error=USUAL_LOOK.divergence) if self.float_network.doubtful else USUAL_LOOK
        return len(codec.encode_model(self.write(replace(coded, look=look)), self.layout)) + SPARE

    def lost(self, coded: Coded, count: int | None = None) -> float:
        """Return points of accuracy that a file loses on the inputs held apart, or the first `count` of them."""
        again = copy.deepcopy(self.module)
        again.load_state_dict(state_of(again, to_tensors(self.write(coded))))
        return accuracy_lost(self._float_scores[:count], again, self.held_out.first(count))

    @cached_property
    def _float_scores(self) -> Tensor:
        return predict(self.module, self.held_out.inputs)
