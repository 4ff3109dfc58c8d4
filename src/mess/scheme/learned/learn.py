"""A network to integers and references, layer by layer."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.scheme.learned.basis import shared_bases
from mess.scheme.learned.distilling import distil
from mess.scheme.learned.latent import Latent
from mess.scheme.learned.layers import Basis, WeightLayer, weight_layers
from mess.scheme.learned.layerwise import LayerwiseForward, StageProgress, no_progress, split_batches
from mess.scheme.learned.memory import give_back
from mess.scheme.learned.moments import asymmetric_target, change_basis, second_moments
from mess.scheme.learned.rate_rounding import inverse_cholesky_, layer_step, round_layer
from mess.scheme.learned.sensitivity import output_sensitivity

WIDE = 2048  # numbers a row, from which on a layer's moments are the most there is in memory


@dataclass(frozen=True)
class LearnOptions:
    """How far to go; validates itself.

    Attributes:
        divergence: nats by which the stored network's predictions may stray from the float network's, by the
            second-order estimate that λ is chosen with: λ = 2·ln 2·divergence / weights. Smaller: more bytes.
        steps: of distilling; 0 leaves it out.
        seed: of sampled predictions and of the order of inputs.
    """

    divergence: float = 0.002
    steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.divergence < 100:
            raise OptionError("divergence", "a number of nats in 0…100", self.divergence)
        if self.steps < 0:
            raise OptionError("steps", "0 or more", self.steps)


@dataclass(frozen=True)
class LearnedLayer:
    """A weight as Σ_t q_t·R_t.

    Attributes:
        integers_OCT: q, (outputs, inputs a group or numbers, terms) int32.
        step: float32 that all of q is multiplied with.
        basis: whose references; None: one reference, the number 1.
        shape: of the weight.
        wanted_OCT: the multiples of the step that q was rounded from.
    """

    integers_OCT: Tensor
    step: float
    basis: Basis | None
    shape: tuple[int, ...]
    unrounded_OCT: Tensor


@dataclass(frozen=True)
class Learned:
    """A network in version 4.

    Attributes:
        layers: by name of the weight in the state dict.
        bases: references of each kind of kernel, (T, T) rows, multiples of `basis_step`.
        model: the network with decoded weights and settled vectors, in eval mode.
    """

    layers: dict[str, LearnedLayer]
    bases: dict[Basis, Tensor]
    model: nn.Module


def learn(
    model: nn.Module,
    inputs: Tensor,
    options: LearnOptions,
    *,
    progress: StageProgress = no_progress,
    draft: bool = False,
) -> Learned:
    """Round a network.

    Args:
        model: stays as it is.
        inputs: what the network is to be looked at with, as it takes it; no labels.
        draft: leave out distilling: quick, for finding a rate.

    Raises:
        OptionError: a network without a convolution or linear layer that runs.
    """
    original = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    original = original.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    stored = copy.deepcopy(original).requires_grad_(True)
    # given images may come class by class; some layers look at the first of them only
    inputs = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(options.seed))]
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    layers, twins = weight_layers(stored), {x.name: x for x in weight_layers(original)}
    sensitivity, calls = output_sensitivity(
        original, list(twins.values()), inputs, seed=options.seed, progress=progress
    )
    running = [layer for layer in layers if layer.name in sensitivity]
    if not running:
        raise OptionError(
            "version v4", "a network with convolutions or linear layers", "none that runs on these inputs"
        )
    bases = shared_bases(running)
    lmbda = lambda_for(running, options)
    latents: dict[str, Latent] = {}
    batches = split_batches(inputs)
    with (
        LayerwiseForward(stored, running, calls, batches) as stored_passes,
        LayerwiseForward(original, [twins[layer.name] for layer in running], calls, batches) as original_passes,
    ):
        for number, layer in enumerate(running):
            progress("rounding", number, len(running))
            if layer.module.weight[0].numel() >= WIDE:
                give_back()
            basis = bases[layer.basis] if layer.basis else None
            moments = second_moments(stored_passes, original_passes, layer)
            latents[layer.tensor_name] = latent = _rounded(layer, *moments, sensitivity[layer.name], basis, lmbda)
            del moments
            layer.module.weight.data = latent.weight().detach()
            stored_passes.settle(layer.name)
            original_passes.settle(layer.name)
    if options.steps and not draft:
        distil(
            stored, original, latents, inputs,
            steps=options.steps, lmbda=lmbda, seed=options.seed, progress=progress,
        )  # fmt: skip
    return _finished(stored, running, latents, bases)


def lambda_for(layers: list[WeightLayer], options: LearnOptions) -> float:
    """Return λ, the divergence that one bit is worth: at high rates D falls by the factor 2^(−2/weights) a bit."""
    return 2 * math.log(2) * options.divergence / sum(layer.module.weight.numel() for layer in layers)


def rebuild_layer(layer: LearnedLayer, bases: dict[Basis, Tensor]) -> Tensor:
    """Return the weight as the file's reader does: float32, q·step rounded, times R_t, summed term after term."""
    scaled = layer.integers_OCT.float() * torch.tensor(layer.step, dtype=torch.float32)
    if layer.basis is None:
        return scaled.reshape(layer.shape)
    basis = bases[layer.basis].float()
    total = torch.zeros_like(scaled)
    for term in range(len(basis)):
        total = total + scaled[:, :, term, None] * basis[term]
    return total.reshape(layer.shape)


def _rounded(
    layer: WeightLayer,
    second_moment_Gnn: Tensor,
    cross_GnR: Tensor,
    sensitivity_O: Tensor,
    basis_TT: Tensor | None,
    lmbda: float,
) -> Latent:
    """Round one layer in the coordinates of its basis: W = Q·B, so that ΔW·H·ΔWᵀ = ΔQ·(B·H·Bᵀ)·ΔQᵀ."""
    terms = layer.terms
    target_GRn = asymmetric_target(layer.matrix(layer.module.weight.detach().double()), second_moment_Gnn, cross_GnR)
    if basis_TT is not None:
        change_basis(second_moment_Gnn, basis_TT)
        target_GRn = (target_GRn.unflatten(-1, (-1, terms)) @ torch.linalg.inv(basis_TT)).flatten(-2)
    upper = inverse_cholesky_(second_moment_Gnn)
    weights_GR = sensitivity_O.reshape(layer.groups, -1)
    step = layer_step(upper, weights_GR, lmbda)
    integers, wanted = round_layer(target_GRn, upper, weights_GR, step=step, lmbda=lmbda, terms=terms)
    size = (layer.module.weight.shape[0], -1, terms)
    return Latent.start(integers.reshape(size), wanted.reshape(size), step, basis_TT, layer.module.weight.shape)


def _finished(
    stored: nn.Module, layers: list[WeightLayer], latents: dict[str, Latent], bases: dict[Basis, Tensor]
) -> Learned:
    made: dict[str, LearnedLayer] = {}
    for layer in layers:
        latent = latents[layer.tensor_name]
        step = float(latent.log_step.detach().exp().float())
        found = LearnedLayer(
            latent.integers().to(torch.int32), step, layer.basis, tuple(latent.shape), latent.values_OCT.detach()
        )
        made[layer.tensor_name] = found
        layer.module.weight.data = rebuild_layer(found, bases)
    return Learned(made, bases, stored.eval())
