"""Version 4 to the codec's form and back: every weight as multiples of one step of learned references.

::

    network, inputs ── learn ──► integers, references, vectors ── coded ──► StoredModel
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mess import codec
from mess.errors import OptionError
from mess.scheme.learned import (
    Learned,
    LearnedLayer,
    LearnOptions,
    basis_step,
    gather_inputs,
    give_back,
    learn,
    synthetic_inputs,
)
from mess.scheme.learned.layers import Basis
from mess.storing.entries import Coded
from mess.storing.network import Network
from mess.storing.options import Request
from mess.storing.rate import HeldOut, Search, held_apart

IMAGE_SIZES = {"cifar10": 32, "cifar100": 32, "digits": 32}
IMAGENET_SIZE = 224
FACTS = {"version": "v4"}


def code(network: Network, request: Request, write: Callable[[Coded], codec.StoredModel]) -> Coded:
    """Round the network to integers, as coarsely as the request says.

    Args:
        write: makes the whole of what is written; tells the search for a rate how large a file is.

    Raises:
        OptionError: no module, no inputs and no images to be made up, or a target that cannot be reached.
    """
    options = request.options
    module = network.module
    if module is None:
        raise OptionError("version v4", "a module, or the weights of a network of the zoo", "other weights")
    if request.calibration is not None:
        inputs, labels = gather_inputs(request.calibration)
        learned_from, held_out = held_apart(inputs, labels)
    else:
        inputs = learned_from = _made_up(network, module, request)
        held_out = HeldOut(inputs, None)
    learning = options.learning(calibrated=request.calibration is not None)
    rate_open = request.calibration is not None and options.divergence is None and options.target_size is None
    max_drop = options.max_drop
    if rate_open and max_drop is None:
        max_drop = held_out.usual_drop(module)
    if max_drop is None:
        learned_from = inputs[: len(learned_from)]

    def rounded(inputs: Tensor, learning: LearnOptions, draft: bool) -> Coded:
        return coded(learn(module, inputs, learning, progress=request.progress, draft=draft), network)

    search = Search(module, learned_from, held_out, learning, rounded, write, options.self_contained)
    if options.target_size is not None:
        return search.to_size(options.target_size)
    if max_drop is not None:
        return search.to_drop(max_drop)
    return search.settled(learning.divergence)


def coded(learned: Learned, network: Network) -> Coded:
    """Return a learned network in the codec's form."""
    books, number_of = _books(learned)
    entries: dict[str, codec.Entry] = {}
    settled = dict(learned.model.state_dict())
    for name, layer in learned.layers.items():
        if not bool(settled[name].to(network.weights[name].dtype).isfinite().all()):
            settled[name] = network.weights[name]  # its dtype cannot hold what it would become: it is kept
            continue
        dtype = str(network.weights[name].dtype).removeprefix("torch.")
        integers = layer.integers_OCT.numpy().astype(np.int32)
        entries[name] = codec.Expanded(layer.shape, dtype, number_of[layer.basis], integers, layer.step)
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
        integers = torch.from_numpy(np.ascontiguousarray(entry.integers_RCK))
        layers[name] = LearnedLayer(integers, entry.step, key, entry.shape, integers)
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


def _made_up(network: Network, module: nn.Module, request: Request) -> Tensor:
    if network.architecture is None:
        raise OptionError("calibration", "inputs, for a network that is not in the zoo", "none")
    size = IMAGE_SIZES.get(network.architecture.dataset, IMAGENET_SIZE)
    images = synthetic_inputs(module, size, progress=request.progress)
    give_back()  # gradients of whole passes
    return images
