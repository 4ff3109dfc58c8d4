"""Versions v1 … v3a to the codec's form: every unit by the reference that stands for it.

References are rounded before anything is matched with them, so a unit is fitted to what the reader will have; where α
is rounded, β is fitted once more to the rounded α.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mess import codec
from mess.names import REST_BITS
from mess.scheme import (
    Geometry,
    Matches,
    Scheme,
    match_tensor,
    plan,
    rebuild_tensor,
    refit_offset,
    round_to_bits,
)
from mess.storing.entries import Coded, plain_entry
from mess.storing.layers import Asked, require_effect
from mess.storing.network import Network
from mess.storing.options import Request, StoreOptions


def code(network: Network, request: Request) -> Coded:
    """Match every unit of the network with its reference.

    Raises:
        OptionError: the scheme does not fit the network.
    """
    options = request.options
    scheme = options.scheme()
    planned = plan(network.module or network.weights, scheme, pointwise=options.pointwise, linear=options.linear)
    wanted = [tuple(target for target in group.targets if target.name not in network.kept) for group in planned.groups]
    groups = [replace(group, targets=own) for group, own in zip(planned.groups, wanted, strict=True) if own]
    targets = {target.name for group in groups for target in group.targets}
    for option in ("scale_bits", "offset_bits"):
        require_effect(options.layers, option, targets, "a tensor that references stand for")
    require_effect(options.layers, "rest_bits", network.weights.keys() - targets, "a tensor that none stand for")
    entries: dict[str, codec.Entry] = {}
    books: list[codec.Codebook] = []
    for number, group in enumerate(groups):
        source = group.source
        asked = network.asked.get(source.name, Asked())
        bits = REST_BITS if asked.keep else asked.rest_bits or options.rest or REST_BITS
        references = plain_entry(source.name, network.weights[source.name], bits)
        entries[source.name] = references
        books.append(codec.Codebook(source.name, source.unit, source.stride, by_row=source.row != source.numel))
        refs_KU = source.reference_units(torch.from_numpy(references.numbers.floats()).reshape(source.shape))
        for target in group.targets:
            weight = network.weights[target.name].detach().cpu()
            if scheme.quant_bits is not None and target.name not in request.projected:
                weight = round_to_bits(weight, scheme.quant_bits)
            own = _with_own(options, network.asked.get(target.name))
            matches = _on_cpu(match_tensor(weight.to(request.device), target, refs_KU.to(request.device), scheme.fit))
            entry = _entry(matches, target, weight, refs_KU, own, number)
            if entry is not None:
                entries[target.name] = entry
    return Coded(books, entries, facts_of(scheme))


def _with_own(options: StoreOptions, asked: Asked | None) -> StoreOptions:
    """Return the options of one tensor."""
    own = {name: bits for name in ("scale_bits", "offset_bits") if (bits := getattr(asked, name, None)) is not None}
    return replace(options, **own) if own else options


def _on_cpu(matches: Matches) -> Matches:
    scale_N, offset_N = (x if x is None else x.cpu() for x in (matches.scale_N, matches.offset_N))
    return Matches(matches.index_N.cpu(), scale_N, offset_N)


def _entry(
    matches: Matches, target: Geometry, weight: Tensor, refs_KU: Tensor, options: StoreOptions, book: int
) -> codec.Matched | None:
    """Return a tensor's entry; None where what stands for it would be infinite in its dtype."""
    dtype = str(weight.dtype).removeprefix("torch.")
    index_N = matches.index_N.numpy()
    if matches.scale_N is None or matches.offset_N is None:
        copied = _is_finite(rebuild_tensor(matches, target, refs_KU).to(weight.dtype))
        return codec.Matched(target.shape, dtype, book, index_N, None, None) if copied else None
    scale = codec.quantize_numbers(matches.scale_N.numpy(), "float32", options.scale_bits, target.name)
    offset_N = matches.offset_N
    if options.scale_bits != 32:
        offset_N = _refitted(target, weight, refs_KU, matches, torch.from_numpy(scale.floats()))
    if not _is_finite(offset_N):
        return None
    offset = codec.quantize_numbers(offset_N.numpy(), "float32", options.offset_bits, target.name)
    final = Matches(matches.index_N, torch.from_numpy(scale.floats()), torch.from_numpy(offset.floats()))
    if not _is_finite(rebuild_tensor(final, target, refs_KU).to(weight.dtype)):
        return None
    return codec.Matched(target.shape, dtype, book, index_N, scale, offset)


def _is_finite(numbers: Tensor) -> bool:
    return bool(numbers.isfinite().all())


def _refitted(target: Geometry, weight: Tensor, refs_KU: Tensor, matches: Matches, scale_N: Tensor) -> Tensor:
    """Return the offsets that go with rounded scales."""
    units, indices, scales = target.cut(weight), target.separate(matches.index_N), target.separate(scale_N)
    full = refit_offset(units[0], refs_KU, indices[0], scales[0])
    if not target.short_unit:
        return full
    return target.interleave(full, refit_offset(units[1], refs_KU[:, : target.short_unit], indices[1], scales[1]))


def facts_of(scheme: Scheme) -> dict[str, Any]:
    """Return what a file says of the scheme."""
    facts: dict[str, Any] = {"version": scheme.version}
    if scheme.bind != 1:
        facts["bind"] = scheme.bind
    if scheme.quant_bits is not None:
        facts["quant_bits"] = scheme.quant_bits
    return facts
