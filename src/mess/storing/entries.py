"""From tensors to the codec's intermediate form, whatever the scheme: what no reference stands for, and the whole.

Everything lossy happens before the codec, by the functions of `mess.scheme` and `mess.codec.quantize`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mess import codec
from mess.arithmetic.batch_norm import DEAD, scale_and_shift
from mess.codec.contents import KEPT, LOOK
from mess.codec.dtypes import NAMED
from mess.codec.model import joined
from mess.codec.numbers import NumberArray
from mess.codec.quantize import STEPPED_BITS
from mess.errors import WeightsError
from mess.extra_state import STATES
from mess.models.described import describe
from mess.storing.look import Look
from mess.storing.network import Network

DTYPES = {name: getattr(torch, name) for name in NAMED}
UNKNOWN_BITS = 12  # of parameters of which nothing is known


@dataclass(frozen=True)
class Coded:
    """What a scheme makes of a network: the tensors that references stand for, and what is left.

    Attributes:
        books: the references.
        entries: the tensors that were coded, by name.
        settled: the values of all others, where the scheme has changed them; by name.
        facts: what the file says of the scheme.
        bits: that each vector is worth, by name; of a BatchNorm layer "weight" stands for its scale, "bias" for its
            shift.
        look: what the stored network still answers, where it was looked at.
        unseen: why it was not, where a scheme that looks at networks could not; "" otherwise.
    """

    books: list[codec.Codebook]
    entries: dict[str, codec.Entry]
    facts: dict[str, Any]
    settled: Mapping[str, Tensor] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)
    look: Look | None = None
    unseen: str = ""


def complete(network: Network, coded: Coded, rest_bits: int | None, about: Mapping[str, Any]) -> codec.StoredModel:
    """Return the whole of what is written: coded tensors, ties, BatchNorm as two vectors, the rest rounded.

    Args:
        rest_bits: of all that was not coded; None: what each vector is worth.
        about: facts for the file; those of its input go with a network of the zoo, all else with the scheme.
    """

    kept, buffers = network.kept, network.buffers

    def bits(name: str) -> int:
        asked = network.asked.get(name)
        if asked is not None and (asked.keep or asked.rest_bits is not None):
            return 32 if asked.rest_bits is None else asked.rest_bits
        if rest_bits is not None:
            return rest_bits
        return coded.bits.get(name, 32 if name in buffers else UNKNOWN_BITS)

    weights = {
        name: tensor if name in kept or name in buffers else coded.settled.get(name, tensor)
        for name, tensor in network.weights.items()
    }
    # of tensors that are one, the coded one is stored, whichever is named first
    stored_as = {network.tied.get(name, name): name for name in coded.entries}
    entries: dict[str, codec.Entry] = dict(coded.entries)
    norms = batch_norm_layers(network)
    for prefix, layer in norms.items():
        scale_bits, shift_bits = (bits(joined(prefix, part)) for part in codec.BATCH_NORM_PARTS[:2])
        entries[prefix] = fold_batch_norm(prefix, layer, weights, scale_bits, shift_bits)
    folded = {joined(prefix, part) for prefix in norms for part in codec.BATCH_NORM_PARTS}
    for name, own in network.weights.items():
        if name in entries or name in folded:
            continue
        first = network.tied.get(name, name)
        to = stored_as.get(first, first)
        if to != name:
            entries[name] = codec.Tied(to)
        elif name in network.beyond:
            entries[name] = exact_entry(own)
        else:
            entries[name] = plain_entry(name, as_dtype(weights[name], own.dtype), bits(name))
    described, facts = describe(network.architecture, about)
    seen = {} if coded.look is None else {LOOK: coded.look.facts()}
    whole = sorted(name for name in kept - network.beyond if name in entries and network.weights[name].dim() > 1)
    asked = {KEPT: whole} if whole else {}
    states = {STATES: dict(network.states)} if network.states else {}
    scheme = {**coded.facts, **asked, **seen, **facts, **states}
    return codec.StoredModel(described, scheme, coded.books, entries, network.graph)


def batch_norm_layers(network: Network) -> dict[str, _BatchNorm]:
    """Return the layers that can be stored as what they compute: float32, all parts there, none tied or kept."""
    if network.module is None:
        return {}
    apart = {*network.tied, *network.tied.values(), *network.kept}
    found = {}
    for prefix, layer in network.module.named_modules():
        whole = isinstance(layer, _BatchNorm) and layer.affine and layer.track_running_stats
        if not whole or not 0 <= layer.eps < 1:  # what a file has room for
            continue
        parts = [joined(prefix, part) for part in codec.BATCH_NORM_PARTS[:4]]
        plain = all(part in network.weights and network.weights[part].dtype == torch.float32 for part in parts)
        if plain and apart.isdisjoint(parts):
            found[prefix] = layer
    return found


def fold_batch_norm(
    prefix: str, layer: _BatchNorm, weights: Mapping[str, Tensor], scale_bits: int, shift_bits: int
) -> codec.BatchNorm:
    """Fold a layer to x·scale + shift, in float64, then round once.

    A channel whose input never varies has a scale of weight/√eps, hundreds of times the others', and nothing to scale:
    multiples of one step that reach so far would leave the others hardly any. Its output is all shift.
    """
    weight, bias, mean, var = (
        weights[joined(prefix, part)].detach().cpu().double() for part in codec.BATCH_NORM_PARTS[:4]
    )
    stepped = scale_bits in STEPPED_BITS
    scale, shift = scale_and_shift(weight, bias, mean, var, layer.eps, dead=DEAD if stepped else -math.inf)
    pairs = ((scale, scale_bits), (shift, shift_bits))
    a, b = (codec.quantize_numbers(x.float().numpy(), "float32", bits, prefix) for x, bits in pairs)
    return codec.BatchNorm(a, b, eps=float(layer.eps), tracked=layer.num_batches_tracked is not None)


def plain_entry(name: str, tensor: Tensor, bits: int) -> codec.Plain:
    """Return a tensor stored by itself, in as many bits; raises WeightsError for a dtype no file can hold."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise WeightsError(name, f"one of {', '.join(DTYPES)}", dtype)
    if name.endswith("running_var") and (bits in STEPPED_BITS or _strays_in_half(tensor)):
        bits = 32  # variances span decades: multiples of one step would make the small ones 0, as half precision does
    return codec.Plain(tuple(tensor.shape), dtype, codec.quantize_numbers(_flat(tensor), dtype, bits, name))


def exact_entry(tensor: Tensor) -> codec.Plain:
    """Return a tensor stored bit for bit, whatever numbers, infinite ones or NaN are in it."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return codec.Plain(tuple(tensor.shape), dtype, NumberArray(_flat(tensor), dtype))


def _flat(tensor: Tensor) -> np.ndarray:
    """Return the numbers of a tensor as NumPy has them: of bfloat16 and bool the bits."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    bits = {torch.bfloat16: torch.uint16, torch.bool: torch.uint8}.get(tensor.dtype)
    return (flat if bits is None else flat.view(bits)).numpy()


def _strays_in_half(tensor: Tensor) -> bool:
    """Return whether half precision changes some number by more than a per cent: it does below 3e-6."""
    exact = tensor.detach().double()
    return bool(((exact.half().double() - exact).abs() > 0.01 * exact.abs()).any())


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as another dtype, infinite nowhere."""
    if dtype.is_floating_point and tensor.is_floating_point():
        largest = min(torch.finfo(dtype).max, torch.finfo(tensor.dtype).max)
        tensor = tensor.clamp(-largest, largest)
    return tensor.to(dtype)
