"""Between tensors and the codec's intermediate form: what is written, already matched and rounded.

Everything lossy happens here, by the functions of `mess.scheme` and `mess.codec.quantize`; the codec after it loses
nothing. References are rounded before anything is matched with them, so a unit is fitted to what the reader will have;
where α is rounded, β is fitted once more to the rounded α.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess import codec, models
from mess.codec.model import joined
from mess.codec.quantize import STEPPED_BITS
from mess.errors import FormatError, OptionError, WeightsError
from mess.models import Architecture
from mess.nested_weights import DEEPEST, common_prefix
from mess.scheme import (
    Geometry,
    Group,
    Matches,
    Scheme,
    check_weights,
    match_tensor,
    plan,
    rebuild_tensor,
    refit_offset,
    round_to_bits,
)
from mess.scheme.kernels import STORABLE
from mess.scheme.order import in_natural_order
from mess.scheme.ties import tie_groups

DTYPES = {str(d).removeprefix("torch."): d for d in STORABLE}
# what a file's description of a network carries beside the fields of `Architecture`: the input it was trained on
DEAD = 1e-12  # variance of an input that does not vary; a living one's, below ε = 1e-5 too, is far above
INPUT_FACTS = ("mean", "std")


@dataclass(frozen=True)
class Precision:
    """Bits of α, of β and of everything that is stored as it is: 32 (unchanged), 16 or 2…12 (uniform)."""

    scale: int = 32
    offset: int = 32
    rest: int = 32


@dataclass(frozen=True)
class Conversion:
    """A network in the form the codec writes, and what became of it.

    Attributes:
        as_is: (name, reason) of every tensor no reference stands for.
        error: ‖w − ŵ‖² / ‖w‖² by matched tensor.
        float_bytes: bytes of the tensors in their own dtype, tied ones once.
    """

    stored: codec.StoredModel
    as_is: tuple[tuple[str, str], ...]
    error: dict[str, float]
    float_bytes: int


def to_stored(
    network: nn.Module | Mapping[str, Tensor],
    scheme: Scheme,
    precision: Precision,
    *,
    pointwise: int | None = None,
    linear: bool = False,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    projected: bool = False,
) -> Conversion:
    """Match, round and describe a whole network; raises as `mess.compress`.

    Args:
        projected: kernels are α·R + β already, as training through the decoder leaves them: v2q's rounding, which
            comes before the fit, lies behind them.
        architecture: which network of the zoo the weights are; found out if None.
        about: facts that go into the file: "mean" and "std" with the network, all else with the scheme.
    """
    weights, module, architecture = identified(network, architecture)
    made = plan(module if module is not None else weights, scheme, pointwise=pointwise, linear=linear)
    entries: dict[str, codec.Entry] = {name: codec.Tied(to) for name, to in made.tied.items()}
    books: list[codec.Codebook] = []
    error: dict[str, float] = {}
    too_large: list[tuple[str, str]] = []
    for group in made.groups:
        refs_KU = _add_source(group, weights, precision.rest, entries, books)
        for target in group.targets:
            weight = weights[target.name].detach().cpu()
            if scheme.quant_bits is not None and not projected:
                weight = round_to_bits(weight, scheme.quant_bits)
            made_of = _matched(target, weight, refs_KU, scheme.fit, precision, len(books) - 1)
            if made_of is None:
                too_large.append((target.name, "what stands for it would be too large for its dtype"))
                continue
            entries[target.name], rebuilt = made_of
            error[target.name] = _relative_error(weights[target.name].detach().cpu(), rebuilt)
    layers = batch_norm_layers(module, weights)
    for prefix, layer in layers.items():
        entries[prefix] = fold_batch_norm(prefix, layer, weights, precision.rest)
    folded = {joined(prefix, part) for prefix in layers for part in codec.BATCH_NORM_PARTS}
    for name, tensor in weights.items():
        if name not in entries and name not in folded:
            entries[name] = plain_entry(name, tensor, precision.rest)
    network_facts, scheme_facts = described(architecture, about)
    stored = codec.StoredModel(network_facts, {**_described(scheme), **scheme_facts}, books, entries)
    as_is = tuple(
        (name, "BatchNorm, as two vectors" if name in folded else reason) for name, reason in (*made.as_is, *too_large)
    )
    return Conversion(stored, as_is, error, float_bytes(weights, made.tied))


def to_tensors(stored: codec.StoredModel, names: list[str] | None = None) -> dict[str, Tensor]:
    """Return a stored network's weights as torch tensors of their own dtypes.

    They come in the order of `names`, else in that of the zoo's network, else in the natural order of names.
    """
    found = codec.reconstruct(stored, names=names)
    if names is None and stored.network is None:
        found = {name: found[name] for name in in_natural_order(found)}
    return {name: _as_tensor(array, dtype) for name, (array, dtype) in found.items()}


def described(
    architecture: Architecture | None, about: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return what a file says of the network, its input's mean and std with it, and the facts left for the scheme."""
    facts = dict(about or {})
    if architecture is None:
        return None, facts
    return architecture.to_dict() | {name: facts.pop(name) for name in INPUT_FACTS if name in facts}, facts


def layout_of(network: dict[str, Any]) -> list[tuple[str, tuple[int, ...], str]]:
    """Return names, shapes and dtypes of the network that a file names.

    Raises:
        FormatError: it names none that exists.
    """
    return models.layout(architecture_of(network))


def architecture_of(network: Mapping[str, Any]) -> Architecture:
    """Return the architecture a file names; see `layout_of`."""
    try:
        return Architecture.from_dict({name: value for name, value in network.items() if name not in INPUT_FACTS})
    except OptionError as error:
        raise FormatError("network", "a network of the zoo", error) from error


def identified(
    network: nn.Module | Mapping[str, Tensor], architecture: Architecture | None
) -> tuple[dict[str, Tensor], nn.Module | None, Architecture | None]:
    """Return (weights, the module that says their kinds, the zoo's name for it).

    A bare state dict of the zoo gets a module to say kinds and order; any other comes in the natural order of names,
    so that the same weights are stored alike from whatever container.
    """
    if isinstance(network, nn.Module):
        return dict(network.state_dict()), network, architecture or getattr(network, "architecture", None)
    check_weights(network)
    weights, architecture = _recognised(dict(network), architecture)
    if architecture is None:
        return {name: weights[name] for name in in_natural_order(weights)}, None, None
    ordered = {}
    for name, shape, _ in models.layout(architecture):
        if name not in weights and name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.int64)
        if name not in weights or tuple(weights[name].shape) != shape:
            found = tuple(weights[name].shape) if name in weights else "none"
            raise WeightsError(name, f"shape {shape}, as {architecture.slug} has it", found)
        ordered[name] = weights[name]
    if extra := sorted(weights.keys() - ordered.keys()):
        raise WeightsError(extra[0], f"only the tensors of {architecture.slug}", "one more")
    module = models.build(architecture)
    module.load_state_dict(ordered)
    return ordered, module, architecture


def _recognised(
    weights: dict[str, Tensor], architecture: Architecture | None
) -> tuple[dict[str, Tensor], Architecture | None]:
    """Return weights and what network of the zoo they are; if one, without a first part of all names (``model.``)."""
    plain = weights
    for _ in range(DEEPEST):
        if architecture is not None and models.layout(architecture)[0][0] in plain:
            return plain, architecture
        found = models.recognise({name: tuple(t.shape) for name, t in plain.items()}) if architecture is None else None
        if found is not None:
            return plain, found
        if not (prefix := common_prefix(plain)):
            break
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    return weights, architecture


def _add_source(
    group: Group,
    weights: Mapping[str, Tensor],
    bits: int,
    entries: dict[str, codec.Entry],
    books: list[codec.Codebook],
) -> Tensor:
    """Store the tensor the references come from; return the references (K, U) as a reader will have them."""
    source = group.source
    entry = plain_entry(source.name, weights[source.name], bits)
    entries[source.name] = entry
    books.append(codec.Codebook(source.name, source.unit, source.stride, by_row=source.row != source.numel))
    return source.reference_units(torch.from_numpy(entry.numbers.floats()).reshape(source.shape))


def _matched(
    target: Geometry, weight: Tensor, refs_KU: Tensor, fit: str, precision: Precision, book: int
) -> tuple[codec.Matched, Tensor] | None:
    """Return a tensor's entry, and what a reader will make of it (float32); None where that would be infinite."""
    dtype = str(weight.dtype).removeprefix("torch.")
    matches = match_tensor(weight, target, refs_KU, fit)
    if matches.scale_N is None or matches.offset_N is None:
        rebuilt = rebuild_tensor(matches, target, refs_KU)
        entry = codec.Matched(target.shape, dtype, book, matches.index_N.numpy(), None, None)
        return (entry, rebuilt) if _is_finite(rebuilt.to(weight.dtype)) else None
    scale = codec.as_numbers(matches.scale_N.numpy(), "float32", precision.scale, target.name)
    scale_N, offset_N = torch.from_numpy(scale.floats()), matches.offset_N
    if precision.scale != 32:
        offset_N = _refitted(target, weight, refs_KU, matches.index_N, scale_N)
    if not _is_finite(offset_N):
        return None
    offset = codec.as_numbers(offset_N.numpy(), "float32", precision.offset, target.name)
    final = Matches(matches.index_N, scale_N, torch.from_numpy(offset.floats()))
    rebuilt = rebuild_tensor(final, target, refs_KU)
    entry = codec.Matched(target.shape, dtype, book, matches.index_N.numpy(), scale, offset)
    return (entry, rebuilt) if _is_finite(rebuilt.to(weight.dtype)) else None


def _is_finite(numbers: Tensor) -> bool:
    return bool(numbers.isfinite().all())


def _refitted(target: Geometry, weight: Tensor, refs_KU: Tensor, index_N: Tensor, scale_N: Tensor) -> Tensor:
    units, indices, scales = target.cut(weight), target.separate(index_N), target.separate(scale_N)
    full = refit_offset(units[0], refs_KU, indices[0], scales[0])
    if not target.short_unit:
        return full
    return target.interleave(full, refit_offset(units[1], refs_KU[:, : target.short_unit], indices[1], scales[1]))


def batch_norm_layers(module: nn.Module | None, weights: Mapping[str, Tensor]) -> dict[str, _BatchNorm]:
    """Return the layers that can be stored as what they compute: float32, with all their parts, and nothing tied."""
    if module is None:
        return {}
    prefixes: dict[_BatchNorm, list[str]] = {}
    for prefix, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, _BatchNorm):
            prefixes.setdefault(layer, []).append(prefix)
    tied = {name: set(names) for names in tie_groups(weights) for name in names}

    def is_alone(layer: _BatchNorm, prefix: str) -> bool:
        """Whether the parts belong to no other layer; one layer under two names is no other."""
        return all(
            tied.get(joined(prefix, part), set()) <= {joined(own, part) for own in prefixes[layer]}
            for part in codec.BATCH_NORM_PARTS
        )

    return {
        own[0]: layer
        for layer, own in prefixes.items()
        if layer.affine
        and layer.track_running_stats
        and all(weights[joined(own[0], part)].dtype == torch.float32 for part in codec.BATCH_NORM_PARTS[:4])
        and is_alone(layer, own[0])
    }


def fold_batch_norm(prefix: str, layer: _BatchNorm, weights: Mapping[str, Tensor], bits: int) -> codec.BatchNorm:
    """Fold a layer to x·scale + shift, in float64, then round once.

    A channel whose input never varies has a scale of weight/√eps, hundreds of times the others', and nothing to scale:
    multiples of one step that reach so far would leave the others hardly any. Its answer is all shift.
    """
    weight, bias, mean, var = (
        weights[joined(prefix, part)].detach().cpu().double() for part in codec.BATCH_NORM_PARTS[:4]
    )
    if var.numel() and float(var.min()) + layer.eps <= 0:
        raise WeightsError(joined(prefix, "running_var"), "variances of at least 0", f"{float(var.min()):.3g}")
    scale = weight / torch.sqrt(var + layer.eps)
    if bits in STEPPED_BITS:
        scale = torch.where(var < DEAD, 0.0, scale)
    shift = bias - mean * scale
    a, b = (codec.as_numbers(x.float().numpy(), "float32", bits, prefix) for x in (scale, shift))
    return codec.BatchNorm(a, b, eps=float(layer.eps), tracked=layer.num_batches_tracked is not None)


def plain_entry(name: str, tensor: Tensor, bits: int) -> codec.Plain:
    """Return a tensor stored by itself, in as many bits; raises WeightsError for a dtype no file can hold."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise WeightsError(name, f"one of {', '.join(DTYPES)}", dtype)
    if bits in STEPPED_BITS and name.endswith("running_var"):
        bits = 32  # variances span decades: multiples of one step would make the small ones 0
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    flat = flat.view(torch.uint16) if dtype == "bfloat16" else flat.view(torch.uint8) if dtype == "bool" else flat
    return codec.Plain(tuple(tensor.shape), dtype, codec.as_numbers(flat.numpy(), dtype, bits, name))


def _as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.view(DTYPES[dtype]) if dtype in ("bfloat16", "bool") else tensor  # NumPy has these as integers


def _described(scheme: Scheme) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": scheme.version}
    if scheme.bind != 1:
        facts["bind"] = scheme.bind
    if scheme.quant_bits is not None:
        facts["quant_bits"] = scheme.quant_bits
    return facts


def _relative_error(weight: Tensor, rebuilt: Tensor) -> float:
    weight = weight.double()
    return float((weight - rebuilt.double()).square().sum() / weight.square().sum().clamp_min(1e-300))


def float_bytes(weights: Mapping[str, Tensor], tied: Mapping[str, str]) -> int:
    """Return the bytes of all tensors in their own dtypes, tied ones once."""
    return sum(t.numel() * t.element_size() for name, t in weights.items() if name not in tied)
