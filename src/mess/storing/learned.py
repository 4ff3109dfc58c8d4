"""Version 4 to the codec's form and back: every weight as multiples of one step of learned references.

::

    network, inputs ── learn ──► integers, references, vectors ── coded ──► StoredModel
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess import codec
from mess.arithmetic.batch_norm import scale_and_shift
from mess.arithmetic.step_exponents import are_steps_good
from mess.arithmetic.trellis import QUARTERS
from mess.codec.model import BATCH_NORM_PARTS, joined
from mess.errors import OptionError, RangeError
from mess.scheme.learned import (
    Learned,
    LearnedLayer,
    LearnOptions,
    StageProgress,
    basis_step,
    gather_inputs,
    learn,
    rebuild_layer,
    round_blind,
)
from mess.scheme.learned.inputs import MAX_INPUTS, distinct
from mess.scheme.learned.layers import Basis, is_matrix
from mess.scheme.learned.rounding import rounded
from mess.scheme.learned.sensitivity import Sensitivity
from mess.storing.entries import Coded, batch_norm_layers
from mess.storing.held_out import HeldOut, hold_out
from mess.storing.layers import require_effect
from mess.storing.made_up import FORGETFUL, make_up, remembers, smallest_map
from mess.storing.network import Network
from mess.storing.options import Request
from mess.storing.rate import Search, to_divergence, to_drop, to_size
from mess.storing.runnable import check_runs, copy_to_run, runs
from mess.storing.several_inputs import needed_inputs, with_one_input

USUAL_SIZES = (224, 32)  # of images: of ImageNet's networks, and of those for CIFAR
SMALL_MAP = 56  # places a side: a network that makes no fewer of 224 is made for small images
MIN_SPARED = 256  # inputs, from which on some are spared to look at; each is missed where there are few
LOOKED_AT = 8  # of so many inputs one is looked at,
MEASURED = 4  # and one where points of accuracy are counted, which takes more of them
HALF = 60000.0  # below the largest number of half precision
HALF_ERROR = 1e-3  # relative, twice what its rounding comes to
FACTS = {"version": "v4"}


def code(network: Network, request: Request, write: Callable[[Coded], codec.StoredModel]) -> Coded:
    """Round the network to integers, as coarsely as the request says, and look at what is left of it.

    Without a network that runs, weights are rounded by themselves, finely, and `unseen` says why.

    Args:
        write: makes the whole of what is written; tells the search for a rate how large a file is.

    Raises:
        OptionError: a target that cannot be reached, or none that can be looked for without a network; inputs on which
            the network leaves float32.
    """
    options, unseen = request.options, network.unseen
    vectors = {name for name, tensor in network.weights.items() if not is_matrix(tensor)}
    require_effect(options.layers, "rest_bits", vectors, "BatchNorm, biases or other vectors")
    if network.module is None:
        unseen = "weights alone do not say what a network computes"
    elif not unseen:
        try:
            found = _looked_at(network, network.module, request, write)
        except RangeError as error:
            if request.calibration is not None:
                raise
            unseen = f"{error.found} on images that were made up"
        else:
            if found is not None:
                return found
            unseen = _why_not(network.module)
    if options.target_size is not None or options.max_drop is not None or options.divergence is not None:
        hint = "" if network.module is None or network.unseen else "Name inputs to look at it with (calibration)"
        raise OptionError("--target-size, --max-drop, --divergence", "a network that can be run", unseen, hint)
    return replace(_blind(network), unseen=unseen)


def _looked_at(
    network: Network, module: nn.Module, request: Request, write: Callable[[Coded], codec.StoredModel]
) -> Coded | None:
    """Round a network that is run on the inputs given, or on images made up for it; None: it takes none of these."""
    module, options = copy_to_run(module).to(request.device), request.options
    request = with_one_input(module, request)
    inputs, held_out = _inputs(network, module, request)
    if inputs is None or held_out is None:
        return None
    learning = replace(options.learning(), kept=network.kept, finer=network.finer)

    weighed: dict[int, Sensitivity] = {}

    def round_at(inputs: Tensor, learning: LearnOptions, progress: StageProgress) -> Coded:
        return coded(learn(module, inputs, learning, weighed=weighed, progress=progress), network)

    search = Search(module, inputs, held_out, learning, round_at, write, options.layout, request.progress)
    if options.target_size is not None:
        return to_size(search, options.target_size)
    if options.max_drop is not None:
        return to_drop(search, options.max_drop)
    # a rate that is named is to be met; the usual one is one to stay below, and no time is taken to come near it
    return to_divergence(search, learning.divergence, met=options.divergence is not None)


def _inputs(network: Network, module: nn.Module, request: Request) -> tuple[Tensor | None, HeldOut | None]:
    """Return what to learn from and what to measure on; None where the network cannot be run on anything."""
    if request.calibration is None:
        made = _make_up(network, module, request)
        return made, HeldOut(made, None, learned_from=True, made_up=True) if made is not None else None
    inputs, labels = distinct(*gather_inputs(request.calibration, progress=request.progress))
    if request.input_shape not in (None, inputs.shape[1:]):
        raise OptionError("--input-shape", f"{tuple(inputs.shape[1:])}, of the inputs given", request.input_shape)
    check_runs(module, inputs)
    if request.validation is not None:
        held, right = gather_inputs(request.validation, progress=request.progress)
        check_runs(module, held)
        return inputs[:MAX_INPUTS], HeldOut(held, _class_numbers(right, request))
    labels = _class_numbers(labels, request)
    if request.options.max_drop is not None:
        return hold_out(inputs, labels, MEASURED)
    if len(inputs) >= MIN_SPARED and not request.made_up:
        return hold_out(inputs, labels, LOOKED_AT)
    return inputs, HeldOut(inputs, labels, learned_from=True, made_up=request.made_up)


def _class_numbers(labels: Tensor | None, request: Request) -> Tensor | None:
    """Return labels (N,) where points of accuracy are counted by them; None where nothing is or there are none."""
    if labels is None or request.options.max_drop is None:
        return None
    flat = labels.squeeze(1) if labels.dim() == 2 and labels.shape[1] == 1 else labels
    if flat.dim() != 1 or flat.is_floating_point():
        found = f"{str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}"
        raise OptionError("--max-drop", "a class number for each input", found)
    return flat


def _why_not(module: nn.Module) -> str:
    """Say why a network takes no images that could be made up."""
    needed = needed_inputs(module)
    if len(needed) > 1:
        return (
            f"it takes several inputs ({', '.join(needed)}), which nothing makes up: batches of them would be looked at"
        )
    if not remembers(module):
        return FORGETFUL
    return (
        "it takes no images of the usual sizes: an input shape, or inputs to look at it with, would say what it takes"
    )


def _blind(network: Network) -> Coded:
    """Round weights by themselves; vectors in half precision where that holds them."""
    apart = network.tied.keys() | network.kept
    matrices = {name: tensor for name, tensor in network.weights.items() if name not in apart}
    layers, bases = round_blind(matrices, finer=network.finer)
    others = network.weights.keys() - layers.keys() - network.buffers
    bits = {name: 16 if name not in network.finer and _is_half_enough(network.weights[name]) else 32 for name in others}
    for prefix, norm in batch_norm_layers(network).items():
        enough = _is_half_enough_of(
            norm, {part: network.weights[joined(prefix, part)] for part in BATCH_NORM_PARTS[:4]}
        )
        bits |= {joined(prefix, part): 16 if enough else 32 for part in BATCH_NORM_PARTS[:2]}
    return coded(Learned(layers, bases, nn.Module(), bits), network)


def _is_half_enough(tensor: Tensor) -> bool:
    """Return whether half precision holds a vector: it neither overflows nor vanishes."""
    exact = tensor.detach().double()
    halved = exact.clamp(-HALF, HALF).half().double()
    return bool((exact.abs() < HALF).all()) and float((halved - exact).norm()) <= HALF_ERROR * float(exact.norm())


def _is_half_enough_of(norm: _BatchNorm, parts: Mapping[str, Tensor]) -> bool:
    """Return whether half precision holds the scale and shift that a BatchNorm layer amounts to, as it is in use.

    Where inputs are far from zero, beside what they vary by, both are large beside what they put out.
    """
    weight, bias, mean, var = (parts[part].detach().cpu().double() for part in BATCH_NORM_PARTS[:4])
    scale, shift = scale_and_shift(weight, bias, mean, var, norm.eps)
    lost = torch.cat(
        [(scale.half().double() - scale) * torch.maximum(mean.abs(), var.sqrt()), shift.half().double() - shift]
    )
    return bool(lost.isfinite().all()) and float(lost.norm()) <= HALF_ERROR * float(torch.cat([weight, bias]).norm())


def coded(learned: Learned, network: Network) -> Coded:
    """Return a learned network in the codec's form."""
    books, number_of = _books(learned)
    entries: dict[str, codec.Entry] = {}
    settled = dict(learned.model.state_dict())
    for name, layer in learned.layers.items():
        decoded_to = settled[name] if name in settled else rebuild_layer(layer, learned.bases)
        held = bool(decoded_to.to(network.weights[name].dtype).isfinite().all())
        if not held or (layer.exponents.given and not are_steps_good(layer.step, layer.exponents)):
            settled[name] = network.weights[name]  # no dtype holds what it, or a step, would become: it is kept
            continue
        dtype = str(network.weights[name].dtype).removeprefix("torch.")
        integers = layer.integers_OCT.numpy().astype(np.int32)
        book = number_of[layer.basis]
        entries[name] = codec.Expanded(layer.shape, dtype, book, integers, layer.step, layer.exponents, layer.levels)
    return Coded(books, entries, FACTS, settled, learned.vector_bits)


def decoded(stored: codec.StoredModel, model: nn.Module) -> Learned:
    """Undo `coded`: return the integers and references of a file, to go on from.

    Args:
        model: the network of the file, decoded.

    Raises:
        OptionError: a file of another version.
    """
    if stored.scheme.get("version") != FACTS["version"]:
        raise OptionError("--version", str(stored.scheme.get("version")), FACTS["version"])
    layers: dict[str, LearnedLayer] = {}
    bases: dict[Basis, Tensor] = {}
    for name, entry in stored.entries.items():
        if not isinstance(entry, codec.Expanded):
            continue
        book = stored.books[entry.book]
        key = None
        if book.unit > 1:
            height, width = entry.shape[2:]
            groups = getattr(model.get_submodule(name.rpartition(".")[0]), "groups", entry.shape[0])
            key = (height, width, entry.shape[1] == 1 and groups > 1)  # one input may also be a grey first layer
            bases[key] = torch.from_numpy(codec.references(stored, book)).double()
        unrounded, step = torch.from_numpy(entry.integers_RCK.astype(np.float32)), entry.step
        if entry.trellised:
            unrounded, step = unrounded / QUARTERS, step * QUARTERS  # what goes on from here rounds one by one
        layers[name] = LearnedLayer(rounded(unrounded).int(), step, key, entry.shape, unrounded, entry.exponents)
    return Learned(layers, bases, model)


def _books(learned: Learned) -> tuple[list[codec.Codebook], dict[Any, int]]:
    """Return the codebooks that layers use, the first for numbers that are units of their own."""
    one = codec.NumberArray(np.ones(1, dtype=np.int32), "int32", 1.0)
    books = [codec.Codebook(None, 1, 1, False, one)]
    number_of: dict[Any, int] = {None: 0}
    for key, basis_TT in learned.bases.items():
        step = basis_step(basis_TT)
        integers = torch.round(basis_TT / step).to(torch.int32).numpy().reshape(-1)
        number_of[key] = len(books)
        numbers = codec.NumberArray(integers, "int32", step)
        books.append(codec.Codebook(None, len(basis_TT), len(basis_TT), False, numbers))
    return books, number_of


def _make_up(network: Network, module: nn.Module, request: Request) -> Tensor | None:
    """Return images of the shape that is named, else of the usual size that suits; None where none can be made up.

    Raises:
        OptionError: a shape that the network does not take.
    """
    shape, known = request.input_shape, network.architecture
    if shape is not None and not runs(module, torch.zeros(2, *shape)):
        raise OptionError("--input-shape", "a shape of one input that the network takes", shape)
    if not remembers(module):
        return None
    if shape is None:
        sizes = USUAL_SIZES if known is None else (USUAL_SIZES[known.cifar_form],)
        taken = [(3, size, size) for size in sizes if runs(module, torch.zeros(2, 3, size, size))]
        small = len(taken) > 1 and smallest_map(module, torch.zeros(2, *taken[0])) >= SMALL_MAP
        shape = taken[small] if taken else None
    return None if shape is None else make_up(module, shape, request.device, progress=request.progress)
