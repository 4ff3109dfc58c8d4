"""Training through what is stored: the forward pass sees α·R_k + β, and the gradient reaches weights and references.

Every matched layer keeps its full-precision kernels W, the *latent* ones, as its parameter. What the convolution uses
is their projection onto the references they have,

    Ŵ = w̄ + ⟨w − w̄, r_k⟩·r_k        r_k: the reference without its mean, at length 1

so α and β are the least-squares fit at every step (as in variable projection, Golub and Pereyra 1973): they need no
learning rate of their own. The gradient of Ŵ goes to the references through r_k, and to W unchanged (straight-through,
Bengio et al. 2013, arXiv 1308.3432), so that W can leave its reference for a better one when k is chosen again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mess.scheme.matched.geometry import Geometry
from mess.scheme.matched.matching import match_tensor, rebuild_tensor
from mess.scheme.matched.penalties import reference_penalty
from mess.scheme.matched.plan import Group, plan
from mess.scheme.parametrized import Parametrized, owner
from mess.scheme.rounding import round_to_bits
from mess.scheme.versions import Scheme


class _Projected(nn.Module):
    """Latent kernels of one layer → the kernels its references give."""

    index_N: Tensor

    def __init__(self, target: Geometry, references: _Live, index_N: Tensor, scheme: Scheme) -> None:
        super().__init__()
        self.target, self.references, self.scheme = target, references, scheme
        self.register_buffer("index_N", index_N, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return Ŵ, of the shape of W."""
        refs_KU = self.references()
        fitted = _to_fit(weight.detach(), self.scheme)
        parts = []
        for units_NU, index_N in zip(self.target.cut(fitted), self.target.separate(self.index_N), strict=True):
            if not len(index_N):  # no unit is short, as in most schemes
                parts.append(units_NU)
                continue
            chosen_NU = nn.functional.embedding(index_N, refs_KU)[:, : units_NU.shape[1]]
            parts.append(chosen_NU if self.scheme.fit == "copy" else _project(units_NU, chosen_NU))
        projected = self.target.join(*parts)
        return weight - weight.detach() + projected  # the value of the projection, W's gradient as it comes


class _Live:
    """The references as they are now: cut from the reference layer's weight at every use."""

    def __init__(self, layer: nn.Module, source: Geometry) -> None:
        self.layer, self.source = layer, source

    def __call__(self) -> Tensor:
        """Return (K, U), with gradient."""
        return self.source.reference_units(self.layer.weight)  # type: ignore[arg-type]


class ReferenceTraining(Parametrized):
    """A network whose matched layers run through their stored form.

    Args:
        model: changed in place; `detach` undoes it.
        scheme: which references stand for what; with `quant_bits`, what is matched and fitted are W rounded.
        pointwise, linear: as in `plan`.
        rematch_every: epochs between two searches for the best references; None: they stay.
        nuclear, pearson: scales of the penalties on the references, see `penalties`.

    Raises:
        OptionError: the scheme does not fit the network.
    """

    def __init__(
        self,
        model: nn.Module,
        scheme: Scheme,
        *,
        pointwise: int | None = None,
        linear: bool = False,
        rematch_every: int | None = None,
        nuclear: float = 0.0,
        pearson: float = 0.0,
    ) -> None:
        super().__init__(model)
        self.scheme, self.rematch_every, self.nuclear, self.pearson = scheme, rematch_every, nuclear, pearson
        made = plan(model, scheme, pointwise=pointwise, linear=linear)
        self.groups: tuple[Group, ...] = made.groups
        self._sources: list[_Live] = []
        for group in self.groups:
            live = _Live(owner(model, group.source.name), group.source)
            self._sources.append(live)
            for target in group.targets:
                weight: Tensor = owner(model, target.name).weight  # type: ignore[assignment]
                index_N = self._matched(weight, target, live)
                projected = _Projected(target, live, index_N, scheme)
                # layers that share the weight go on sharing it: the same latent tensor, the same projection
                for name in (target.name, *(n for n, first in made.tied.items() if first == target.name)):
                    self.attach(name, projected)

    def before_epoch(self, epoch: int) -> None:
        """Choose references again when it is time."""
        if self.rematch_every is not None and epoch and epoch % self.rematch_every == 0:
            self.rematch()

    def penalty(self) -> Tensor | None:
        """Return the penalties on the references."""
        return reference_penalty(self.references(), self.nuclear, self.pearson)

    @torch.no_grad()
    def rematch(self) -> float:
        """Choose the reference of every unit again, for the latent kernels; return the share that changed."""
        changed = total = 0
        for live, group in zip(self._sources, self.groups, strict=True):
            for target in group.targets:
                projected = self.computed(target.name)
                index_N = self._matched(self.latent(target.name), target, live)
                changed += int((index_N != projected.index_N).sum())
                total += len(index_N)
                projected.index_N.copy_(index_N)
        return changed / max(1, total)

    def references(self) -> list[Tensor]:
        """Return the live references of each group, (K, U) with gradient."""
        return [live() for live in self._sources]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs beside the plain weights: latent kernels and indices."""
        return {**super().state_dict(), "index": {name: self.computed(name).index_N for name in self.layers}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; raises CheckpointError."""
        super().load_state_dict(state)
        for name in self.layers:
            self.computed(name).index_N.copy_(state["index"][name])

    def _matched(self, weight: Tensor, target: Geometry, live: _Live) -> Tensor:
        return match_tensor(_to_fit(weight, self.scheme), target, live().detach(), self.scheme.fit).index_N


@torch.no_grad()
def project_(model: nn.Module, scheme: Scheme, *, pointwise: int | None = None, linear: bool = False) -> None:
    """Replace the kernels of a plain network by their references' form, in place."""
    for group in plan(model, scheme, pointwise=pointwise, linear=linear).groups:
        refs_KU = group.source.reference_units(owner(model, group.source.name).weight)  # type: ignore[arg-type]
        for target in group.targets:
            weight: Tensor = owner(model, target.name).weight  # type: ignore[assignment]
            matches = match_tensor(_to_fit(weight, scheme), target, refs_KU, scheme.fit)
            rebuilt = rebuild_tensor(matches, target, refs_KU)
            weight.copy_(rebuilt)


def _project(units_NU: Tensor, chosen_NU: Tensor) -> Tensor:
    """Return the least-squares α·R + β of each unit on its reference."""
    means_N = units_NU.mean(1, keepdim=True)
    centred_NU = chosen_NU - chosen_NU.mean(1, keepdim=True)
    square_N = centred_NU.square().sum(1, keepdim=True)
    scale_N = ((units_NU - means_N) * centred_NU).sum(1, keepdim=True) / square_N.clamp_min(1e-20)
    return means_N + scale_N * centred_NU


def _to_fit(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return the kernels that references are matched to and fitted on: W, or W rounded."""
    return weight if scheme.quant_bits is None else round_to_bits(weight, scheme.quant_bits)
