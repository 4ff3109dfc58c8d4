"""What the integers of a network cost in the file, as a sum that has a slope.

The coder's tables belong to contexts, not to layers: to how large an integer is expected to be, as those of its row,
its column and its term are (FORMAT.md 10.10). So a channel that is nearly empty makes what is left in it more
expensive, and empty channels are free.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mess.arithmetic.levels import CONTEXTS
from mess.scheme.learned.rounding import rounded

LOWEST = -24  # half octaves: of the first context
FLOOR = 0.1  # added to ratios: one more integer in an empty channel has a price
PRIOR = 8  # integers that a context is taken to have seen before its own
ENOUGH = 30  # integers, from which on a context's own mean says what these were like
MAX_CODE_BITS = 24  # bits of a code
ROOM, LEAST_ROOM = 4, 64  # tables hold magnitudes up to this many times the largest of the start, and at least so many


class RateModel:
    """Code lengths by context, for all layers of a network at once.

    Its tensors stay where they are and keep their shapes, and nothing in `refresh` and `bits` waits for a GPU: a step
    that was captured in a CUDA graph reads what they hold now.

    Args:
        values: by layer, multiples of the step, (O, C, T).
        every: steps between two looks at how large the integers are.

    Attributes:
        bits_XA: of the magnitudes 0 … A−1 in each context, sign included. A leaves room for numbers to grow.
        limit: (), just below the largest magnitude that has a length of its own: what is larger costs no more.
        places: by layer, the context of each integer, (O, C, T) uint8.
    """

    def __init__(self, values: Mapping[str, Tensor], every: int = 1) -> None:
        self.every = every
        largest = max(int(rounded(values_OCT).abs().max()) for values_OCT in values.values())
        device = next(iter(values.values())).device
        self.bits_XA = torch.zeros(CONTEXTS, max(LEAST_ROOM, ROOM * (largest + 2)), device=device)
        self.limit = torch.zeros((), device=device)
        self.places = {name: torch.zeros_like(values_OCT, dtype=torch.uint8) for name, values_OCT in values.items()}
        self._rows_M = self._rows()
        self.refresh(values)

    def after_step(self, steps: int, values: Mapping[str, Tensor]) -> None:
        """Look again when it is time: `steps` of training are done."""
        if steps % self.every == 0:
            self.refresh(values)

    @torch.no_grad()
    def refresh(self, values: Mapping[str, Tensor]) -> None:
        """Look again at how large the integers are.

        Args:
            values: by layer, multiples of the step, (O, C, T).
        """
        self._follow(values)
        room = self.bits_XA.shape[1]
        sizes = {name: rounded(values_OCT).abs() for name, values_OCT in values.items()}
        for name, size_OCT in sizes.items():
            self.places[name].copy_(_contexts(size_OCT))
        self._rows_M.copy_(self._rows())
        self.bits_XA.copy_(_lengths(list(sizes.values()), list(self.places.values()), room))
        largest = torch.stack([size_OCT.max() for size_OCT in sizes.values()]).max().clamp(max=room - 2)
        self.limit.copy_(largest.double() + 1 - 1e-3)

    def take(self, bits_XA: Tensor, limit: Tensor | None, places: Mapping[str, Tensor]) -> None:
        """Go on with these; without a limit, as earlier versions kept them, the whole table counts."""
        device = self.bits_XA.device
        self.bits_XA = bits_XA.to(device, copy=True)
        self.limit = (torch.tensor(bits_XA.shape[1] - 1 - 1e-3) if limit is None else limit).to(device, copy=True)
        self.places = {name: places[name].to(device, copy=True) for name in self.places}
        self._rows_M = self._rows()

    def bits(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the length of all codes, (): linear between one integer and the next, so that cheaper ones attract."""
        self._follow(values)
        # one pass over all layers: dozens of small ones take a GPU longer than what they compute
        size_M = torch.cat([values_OCT.flatten() for values_OCT in values.values()]).abs().clamp(max=self.limit)
        below_M = size_M.detach().floor()
        start_M = self._rows_M + below_M.long()
        bits = self.bits_XA.flatten()
        low_M, high_M = bits[start_M], bits[start_M + 1]
        return (low_M + (high_M - low_M) * (size_M - below_M)).sum()

    def _follow(self, values: Mapping[str, Tensor]) -> None:
        """Move to where the network is."""
        device = next(iter(values.values())).device
        if self.bits_XA.device != device:
            self.bits_XA, self.limit = self.bits_XA.to(device), self.limit.to(device)
            self.places = {name: place_OCT.to(device) for name, place_OCT in self.places.items()}
            self._rows_M = self._rows_M.to(device)

    def _rows(self) -> Tensor:
        """Return where each integer's row of `bits_XA` starts, all layers in turn, (M,)."""
        places_M = torch.cat([place_OCT.flatten() for place_OCT in self.places.values()])
        return places_M.long() * self.bits_XA.shape[1]


def _contexts(size_OCT: Tensor) -> Tensor:
    """Return the context of each integer, from the means of its term, its row and its column."""
    mean_11T = size_OCT.mean((0, 1), keepdim=True).clamp_min(2.0 ** (LOWEST / 2))
    total = size_OCT.mean().clamp_min(1e-9)
    row_O11 = (size_OCT.mean((1, 2), keepdim=True) / total + FLOOR).log2()
    column_1C1 = (size_OCT.mean((0, 2), keepdim=True) / total + FLOOR).log2()
    half_octave_OCT = 2 * mean_11T.log2() + row_O11 + column_1C1
    return (half_octave_OCT.round() - LOWEST).clamp(0, CONTEXTS - 1).to(torch.uint8)


def _lengths(sizes: list[Tensor], places: list[Tensor], room: int) -> Tensor:
    """Return −log₂ of how frequent magnitudes are in each context, (X, A) with A = `room`; plus a sign.

    A context that has seen few integers is taken to be geometric around its mean.
    """
    counts_Y = torch.zeros(CONTEXTS * room, dtype=torch.float64, device=sizes[0].device)
    for size_OCT, place_OCT in zip(sizes, places, strict=True):
        index_M = (place_OCT.long() * room + size_OCT.long().clamp(max=room - 2)).flatten()
        counts_Y.index_add_(0, index_M, torch.ones_like(index_M, dtype=torch.float64))  # bincount waits for its result
    counts_XA = counts_Y.reshape(CONTEXTS, room)
    steps_A = torch.arange(room, device=counts_XA.device).double()
    seen_X1 = counts_XA.sum(1, keepdim=True)
    own_X1 = (counts_XA * steps_A).sum(1, keepdim=True) / seen_X1.clamp_min(1)
    usual_X1 = 2.0 ** ((torch.arange(CONTEXTS, device=counts_XA.device).double()[:, None] + LOWEST) / 2)
    mean_X1 = torch.where(seen_X1 > ENOUGH, own_X1.clamp_min(1 / 64), usual_X1)
    ratio_X1 = mean_X1 / (1 + mean_X1)
    prior_XA = ratio_X1**steps_A * (1 - ratio_X1)
    frequency_XA = (counts_XA + PRIOR * prior_XA) / (seen_X1 + PRIOR)
    return (-frequency_XA.clamp_min(2.0**-MAX_CODE_BITS).log2() + (steps_A > 0)).float()
