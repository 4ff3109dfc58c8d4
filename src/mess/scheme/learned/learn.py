"""A network to integers and references, layer by layer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess.arithmetic.batch_norm import DEAD, scale_and_shift
from mess.arithmetic.levels import Levels
from mess.arithmetic.step_exponents import NO_EXPONENTS, Exponents, steps_of
from mess.errors import OptionError, RangeError
from mess.names import DIVERGENCE
from mess.scheme.learned.basis import shared_bases
from mess.scheme.learned.curvature import Curvature, with_curvature
from mess.scheme.learned.layers import Basis, WeightLayer, weight_layers
from mess.scheme.learned.layerwise import (
    LayerwiseForward,
    StageProgress,
    device_of,
    fast_layout,
    no_progress,
    split_batches,
)
from mess.scheme.learned.memory import give_back
from mess.scheme.learned.moments import Moments, asymmetric_target, change_basis, joined, second_moments, shrink_, turn_
from mess.scheme.learned.outputs import known_outputs
from mess.scheme.learned.rounding import (
    RoundingProblem,
    coarse_enough,
    inverse_cholesky_,
    layer_step,
    round_all,
    rounded,
    rounded_in_trellises,
)
from mess.scheme.learned.sensitivity import LEAST, Sensitivity, output_sensitivity
from mess.scheme.learned.step_sizes import fitted_exponents, in_steps, of_span, shrinkage

MIN_LEVELS = 7  # on each side of zero, of weights that seem not to matter
MIN_BITS, MAX_BITS = 6, 12  # of vectors with a step; beyond: float16
MOST_KEPT = 1 << 28  # bytes of what was found of a network, to round it again
WIDE = 2048  # numbers a row, from which on a layer's moments are the most there is in memory


@dataclass(frozen=True)
class LearnOptions:
    """How far to go; validates itself.

    Attributes:
        divergence: nats by which the stored network's predictions on unseen inputs may stray from the float network's
            (of answers that are no class scores: squared error over variance), about, since it is estimated:
            λ = 2·ln 2·divergence / weights. Smaller: more bytes.
        seed: of sampled predictions and of the order of inputs.
        kept: names of tensors that stay as they are; what is learned of the others knows.
        finer: name → factor by which the steps of a tensor are smaller than the rate makes them.
        trellised: whether numbers may be steps of trellises; training goes on from numbers that are rounded one by one.
    """

    divergence: float = DIVERGENCE
    seed: int = 0
    kept: frozenset[str] = frozenset()
    finer: Mapping[str, float] = field(default_factory=dict)
    trellised: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.divergence < 100:
            raise OptionError("divergence", "a number of nats in 0…100", self.divergence)
        if not (isinstance(self.seed, int) and -(1 << 63) <= self.seed < 1 << 64):
            raise OptionError("seed", "a whole number of 64 bits", self.seed)


@dataclass(frozen=True)
class LearnedLayer:
    """A weight as Σ_t q_t·R_t.

    Attributes:
        integers_OCT: q, (outputs, inputs a group or numbers, terms) int32.
        step: float32 that all of q is multiplied with.
        basis: whose references; None: one reference, the number 1.
        shape: of the weight.
        unrounded_OCT: the multiples of the step that q was rounded from.
        exponents: by which the steps of rows, columns and terms differ from it.
        levels: with which trellises were chosen; None: there are none.
    """

    integers_OCT: Tensor
    step: float
    basis: Basis | None
    shape: tuple[int, ...]
    unrounded_OCT: Tensor
    exponents: Exponents = NO_EXPONENTS
    levels: Levels | None = None


@dataclass(frozen=True)
class Learned:
    """A network in version 4.

    Attributes:
        layers: by name of the weight in the state dict.
        bases: references of each kind of kernel, (T, T) rows, multiples of `basis_step`.
        model: the network with decoded weights and settled vectors, in eval mode.
        vector_bits: of BatchNorm vectors (as scale and shift, under the names of weight and bias), biases and others.
    """

    layers: dict[str, LearnedLayer]
    bases: dict[Basis, Tensor]
    model: nn.Module
    vector_bits: dict[str, int] = field(default_factory=dict)


def learn(
    model: nn.Module,
    inputs: Tensor,
    options: LearnOptions,
    *,
    weighed: dict[int, Sensitivity] | None = None,
    progress: StageProgress = no_progress,
) -> Learned:
    """Round a network.

    Args:
        model: stays as it is. What is looked at is computed where it is; integers are chosen on the CPU.
        inputs: what the network is to be looked at with, as it takes it; no labels.
        weighed: what was found of the same network, by how many of the same inputs; what is found is put there, so that
            it need not be found again at another rate. That is half of the time.

    Raises:
        OptionError: a network without layers that weigh these inputs.
        RangeError: numbers within the network leave float32 on these inputs.
    """
    original = copy.deepcopy(model).float().eval().requires_grad_(False)
    layout = fast_layout(original, inputs[:2])
    original.to(memory_format=layout)  # type: ignore[call-overload]
    stored = copy.deepcopy(original)
    # given images may come class by class; some layers look at the first of them only
    inputs = inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(options.seed))]
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=layout)
    example = inputs[:1].to(device_of(original))
    layers, twins = weight_layers(stored, example), weight_layers(original, example)
    sensitivity = weighed.get(len(inputs)) if weighed is not None else None
    if sensitivity is None:
        outputs = known_outputs(original, inputs)
        _check_range("answers", [torch.tensor(math.log(x.nats) if x.nats else math.inf) for x in outputs])
        sensitivity = output_sensitivity(original, twins, inputs, outputs, seed=options.seed, progress=progress)
        if weighed is not None and sensitivity.bytes <= MOST_KEPT:
            weighed[len(inputs)] = sensitivity
    _check_range("gradients", sensitivity.channels.values())
    if not any(layer.calls or float(sensitivity.channels[layer.name].max()) > LEAST for layer in layers):
        raise OptionError("version v4", "a network with layers that weigh their inputs", "none that runs on these")
    layers, twins = ([layer for layer in all_ if layer.name not in options.kept] for all_ in (layers, twins))
    sensitivity = sensitivity.finer(options.finer)
    bases = shared_bases((layer.weight, layer.basis) for layer in layers)
    lmbda = lambda_for(layers, options)
    found: dict[str, LearnedLayer] = {}
    batches = split_batches(inputs)
    stored_passes, original_passes = (
        LayerwiseForward(stored, layers, batches),
        LayerwiseForward(original, twins, batches),
    )
    for number, layer in enumerate(layers):
        progress("rounding", number, len(layers))
        if layer.weight[0].numel() >= WIDE:
            give_back()
        basis, channels = bases[layer.basis] if layer.basis else None, sensitivity.channels[layer.name]
        if layer.calls:
            spans = second_moments(stored_passes, original_passes, layer, layer.weight.detach())
            halves = [half for of_span in spans for half in of_span]
            # no |Σ x·y| is beyond the largest Σ x²
            _check_range("sums of products", [half.own_Gnn.diagonal(dim1=1, dim2=2) for half in halves])
            _check_range("sums of products", [half.cross_GnR for half in halves])
            curvature = sensitivity.curvature.pop(layer.name, None)
            if curvature is not None:
                _check_range("squares of gradients", [curvature.halves_2Gnn])
                curvature = curvature.times(1.0) if weighed else curvature  # rounding uses its memory
            found[layer.name] = _rounded(
                layer, spans, channels, curvature, basis, lmbda, len(inputs), options.trellised
            )
            del spans, halves
        else:
            found[layer.name] = _rounded_alone(layer, channels, lmbda)
        layer.weight.copy_(_weight(found[layer.name], basis))
        stored_passes.settle(layer.name)
        original_passes.settle(layer.name)
    bits = vector_bits(stored, sensitivity, lmbda)
    stored.cpu()
    for name, layer_ in found.items():
        stored.get_parameter(name).data = rebuild_layer(layer_, bases)
    return Learned({name: found[name] for name, _ in stored.named_parameters() if name in found}, bases, stored, bits)


def _check_range(what: str, numbers: Iterable[Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in numbers):
        raise RangeError(what)


def divergence_at(lmbda: float) -> float:
    """Return the divergence at which one bit a weight is worth λ nats: the inverse of `lambda_for`."""
    return lmbda / (2 * math.log(2))


def lambda_for(layers: list[WeightLayer], options: LearnOptions) -> float:
    """Return λ, the divergence that one bit is worth: at high rates D falls by the factor 2^(−2/weights) a bit."""
    return 2 * math.log(2) * options.divergence / max(1, sum(layer.weight.numel() for layer in layers))


def rebuild_layer(layer: LearnedLayer, bases: dict[Basis, Tensor]) -> Tensor:
    """Return the weight as the file's reader does: float32, q·s rounded, times R_t, summed term after term."""
    scaled = layer.integers_OCT.float() * torch.from_numpy(steps_of(layer.step, layer.exponents))
    if layer.basis is None:
        return scaled.reshape(layer.shape)
    basis = bases[layer.basis].float()
    total = torch.zeros_like(scaled)
    for term in range(len(basis)):
        total = total + scaled[:, :, term, None] * basis[term]
    return total.reshape(layer.shape)


def _rounded(
    layer: WeightLayer,
    spans: list[list[Moments]],
    sensitivity_O: Tensor,
    curvature: Curvature | None,
    basis_TT: Tensor | None,
    lmbda: float,
    inputs: int,
    trellised: bool,
) -> LearnedLayer:
    """Round one layer in the coordinates of its basis: W = Q·B, so that ΔW·H·ΔWᵀ = ΔQ·(B·H·Bᵀ)·ΔQᵀ."""
    weight_GRn = layer.matrix(layer.weight.detach().double())
    sensitivity_GR = sensitivity_O.reshape(layer.groups, -1)
    problems = [
        _problem(weight_GRn[..., span], halves, sensitivity_GR, curvature, basis_TT, layer.terms)
        for span, halves in zip(layer.spans, spans, strict=True)
    ]
    cost_Gn = torch.cat([problem.cost_Gn for problem in problems], 1)
    exponents = fitted_exponents(cost_Gn, sensitivity_GR.cpu(), layer.terms, inputs)
    problems = [
        in_steps(problem, of_span(exponents, span, layer.terms))
        for span, problem in zip(layer.spans, problems, strict=True)
    ]
    step = layer_step(problems, lmbda)
    if trellised:
        return _learned(layer, *rounded_in_trellises(problems, step), exponents)
    return _learned(layer, *round_all(problems, step), step, None, exponents)


def _problem(
    weight_GRn: Tensor,
    halves: list[Moments],
    sensitivity_GR: Tensor,
    curvature: Curvature | None,
    basis_TT: Tensor | None,
    terms: int,
) -> RoundingProblem:
    """Return what rounding a weight, or a part of its rows, is to lose little by; the memory of the halves is used."""
    if basis_TT is not None:
        there_TT = basis_TT.to(weight_GRn.device)
        weight_GRn = (weight_GRn.unflatten(-1, (-1, terms)) @ torch.linalg.inv(there_TT)).flatten(-2)
        for half in halves:
            change_basis(half, there_TT)
        for half_Gnn in curvature.halves_2Gnn if curvature is not None else ():
            turn_(half_Gnn, there_TT)
    share = shrinkage(halves)
    moments = joined(halves)
    shrink_(moments, share, weight_GRn)
    target_GRn = asymmetric_target(moments, weight_GRn)
    second_moment_Gnn = moments.own_Gnn
    if curvature is not None:
        second_moment_Gnn = with_curvature(second_moment_Gnn, curvature, sensitivity_GR)
    upper_Gnn = inverse_cholesky_(second_moment_Gnn)
    cost_Gn = 1 / upper_Gnn.diagonal(dim1=1, dim2=2).square()
    # what follows goes number by number, with NumPy
    return RoundingProblem(target_GRn.cpu(), upper_Gnn.cpu(), sensitivity_GR.cpu(), cost_Gn.cpu(), terms)


def _rounded_alone(layer: WeightLayer, sensitivity_O: Tensor, lmbda: float) -> LearnedLayer:
    weight_OC, sensitivity_O = layer.weight.detach().cpu().double().flatten(1), sensitivity_O.cpu()
    step = math.sqrt(12 * lmbda / math.log(2) / float(sensitivity_O.log().mean().exp()))
    largest = float(weight_OC.abs().max()) or 1.0
    step = min(step, largest / MIN_LEVELS)  # where nothing comes of it, as in a part that does not run
    step = coarse_enough(step, largest)
    unrounded_OC = weight_OC / step
    return _learned(layer, rounded(unrounded_OC), unrounded_OC, step, None, NO_EXPONENTS)


def _learned(
    layer: WeightLayer, integers: Tensor, unrounded: Tensor, step: float, levels: Levels | None, exponents: Exponents
) -> LearnedLayer:
    integers_OCT, unrounded_OCT = (x.reshape(len(layer.weight), -1, layer.terms) for x in (integers, unrounded))
    step = float(torch.tensor(math.log(step)).exp())  # as training keeps it: by its logarithm in float32
    shape = tuple(layer.weight.shape)
    integers_OCT = integers_OCT.to(torch.int32)
    return LearnedLayer(integers_OCT, step, layer.basis, shape, unrounded_OCT.float(), exponents, levels)


def _weight(layer: LearnedLayer, basis_TT: Tensor | None) -> Tensor:
    """Return about what `rebuild_layer` gives, in one product: the next layers are looked at behind it."""
    units_OCT = layer.integers_OCT.float() * torch.from_numpy(steps_of(layer.step, layer.exponents))
    return (units_OCT if basis_TT is None else units_OCT @ basis_TT.float()).reshape(layer.shape)


def vector_bits(model: nn.Module, sensitivity: Sensitivity, lmbda: float) -> dict[str, int]:
    """Return the bits of vectors by name: of the scales and shifts that a BatchNorm amounts to, and of others.

    One step a vector; s² = 12λ/(ln 2·g), as for weights.
    """
    squares = dict(sensitivity.vectors)
    values = {name: p.detach().double() for name, p in model.named_parameters() if name in squares}
    for prefix, norm in model.named_modules():
        weight, bias = (f"{prefix}.{part}" if prefix else part for part in ("weight", "bias"))
        if (
            not isinstance(norm, _BatchNorm)
            or not {weight, bias} <= squares.keys()  # two layers may share one of them
            or norm.running_var is None
            or norm.running_mean is None
        ):
            continue
        spread, mean = (norm.running_var.double() + norm.eps).sqrt(), norm.running_mean.double()
        squares[weight] = squares[weight] * spread.square() + squares[bias] * mean.square()
        values[weight], values[bias] = scale_and_shift(
            values[weight], values[bias], norm.running_mean, norm.running_var, norm.eps, dead=DEAD
        )
    return {name: _bits(values[name], squares[name], lmbda) for name in squares}


def _bits(values: Tensor, squares: Tensor, lmbda: float) -> int:
    step = math.sqrt(12 * lmbda / math.log(2) / max(float(squares.mean()), LEAST))
    levels = float(values.abs().max()) / step
    bits = math.ceil(math.log2(max(levels, 1.0))) + 1
    if bits <= MAX_BITS + 1:
        return min(max(bits, MIN_BITS), MAX_BITS)
    # half precision is hardly finer: float32 where its errors g·e²/2 cost more than the 16 bits a number that are saved
    lost = float((values.half().double() - values).square().mean())
    return 16 if lost <= 32 * math.log(2) / 12 * step**2 else 32
