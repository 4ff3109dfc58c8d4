"""Between version 4's integers and the codec's intermediate form, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mess import codec
from mess.codec.model import joined
from mess.conversion import (
    Conversion,
    batch_norm_layers,
    described,
    float_bytes,
    fold_batch_norm,
    plain_entry,
    to_tensors,
)
from mess.errors import OptionError
from mess.models import Architecture
from mess.scheme.learned import Learned, LearnedLayer, basis_step
from mess.scheme.learned.layers import Basis
from mess.scheme.ties import find_ties


def as_stored(
    learned: Learned,
    weights: Mapping[str, Tensor],
    rest_bits: int,
    *,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
) -> codec.StoredModel:
    """Return what is written: layers as sums of references, the rest rounded.

    Args:
        weights: the network's own; they say names, dtypes and which tensors are one and the same.
    """
    settled = learned.model.state_dict()
    books, number_of = _books(learned)
    tied = find_ties(weights, owners=learned.layers)
    entries: dict[str, codec.Entry] = {name: codec.Tied(to) for name, to in tied.items()}
    for name, layer in learned.layers.items():
        if not bool(settled[name].to(weights[name].dtype).isfinite().all()):
            entries[name] = plain_entry(name, weights[name], 32)  # its dtype cannot hold what it would become
            continue
        dtype = str(weights[name].dtype).removeprefix("torch.")
        integers = layer.integers_OCT.numpy().astype(np.int32)
        entries[name] = codec.Expanded(layer.shape, dtype, number_of[layer.basis], integers, layer.step)
    norms = batch_norm_layers(learned.model, weights)
    for prefix, norm in norms.items():
        entries[prefix] = fold_batch_norm(prefix, norm, settled, rest_bits)
    folded = {joined(prefix, part) for prefix in norms for part in codec.BATCH_NORM_PARTS}
    for name, tensor in weights.items():
        if name not in entries and name not in folded:
            entries[name] = plain_entry(name, _as_dtype(settled[name], tensor.dtype), rest_bits)
    network, facts = described(architecture, about)
    return codec.StoredModel(network, {"version": "v4", **facts}, books, entries)


def as_learned(stored: codec.StoredModel, model: nn.Module) -> Learned:
    """Undo `as_stored`: return the integers and references of a file, to go on from.

    Args:
        model: the network of the file, decoded.

    Raises:
        OptionError: a file of another version.
    """
    if stored.scheme.get("version") != "v4":
        raise OptionError("--version", str(stored.scheme.get("version")), "v4")
    layers: dict[str, LearnedLayer] = {}
    bases: dict[Basis, Tensor] = {}
    for name, entry in stored.entries.items():
        if not isinstance(entry, codec.Expanded):
            continue
        book = stored.books[entry.book]
        key = None
        if book.unit > 1:
            height, width = entry.shape[2:]
            groups = model.get_submodule(name.rpartition(".")[0]).groups
            key = (height, width, entry.shape[1] == 1 and bool(groups != 1))
            bases[key] = torch.from_numpy(codec.references(stored, book)).double()
        integers = torch.from_numpy(np.ascontiguousarray(entry.integers_RCK))
        layers[name] = LearnedLayer(integers, entry.step, key, entry.shape, integers)
    return Learned(layers, bases, model)


def reported(stored: codec.StoredModel, weights: Mapping[str, Tensor]) -> Conversion:
    """Say what became of each tensor."""
    decoded = to_tensors(stored)
    error, as_is = {}, []
    for name, tensor in weights.items():
        if isinstance(stored.entries.get(name), codec.Expanded):
            lost = (tensor.detach().cpu().double() - decoded[name].double()).square().sum()
            error[name] = float(lost / tensor.double().square().sum().clamp_min(1e-300).cpu())
        elif not isinstance(stored.entries.get(name), codec.Tied):
            as_is.append((name, "BatchNorm, as two vectors" if name not in stored.entries else "no layer of weights"))
    tied = {name: entry.to for name, entry in stored.entries.items() if isinstance(entry, codec.Tied)}
    return Conversion(stored, tuple(as_is), error, float_bytes(weights, tied))


def _as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as another dtype, infinite nowhere."""
    if dtype.is_floating_point and tensor.is_floating_point():
        tensor = tensor.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max)
    return tensor.to(dtype)


def _books(learned: Learned) -> tuple[list[codec.Codebook], dict[Any, int]]:
    """Return the codebooks that layers use, the first for numbers that are units of their own."""
    one = codec.Numbers(np.ones(1, dtype=np.int32), "int32", 1.0)
    books = [codec.Codebook(None, 1, 1, False, one)]
    number_of: dict[Any, int] = {None: 0}
    for key, basis_TT in learned.bases.items():
        step = basis_step(basis_TT)
        integers = torch.round(basis_TT / step).to(torch.int32).numpy().reshape(-1)
        number_of[key] = len(books)
        books.append(codec.Codebook(None, len(basis_TT), len(basis_TT), False, codec.Numbers(integers, "int32", step)))
    return books, number_of
