"""What `compress` is given to store: a module, a mapping of names to tensors, or a file that holds weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mess import hub
from mess.class_folders import compact
from mess.codec.container import MAGIC
from mess.errors import MessError, OptionError
from mess.extra_state import apart
from mess.foreign.catalogues import build, installed
from mess.foreign.weights_file import load_weights, read_bytes
from mess.graphs.model_files import is_onnx_file
from mess.hub.networks import class_names, input_of, network_of
from mess.models import Architecture
from mess.models.described import INPUT_FACTS
from mess.scheme import Scheme
from mess.storing.graph import read_graph_network
from mess.storing.load import fill, read_with_description
from mess.storing.matched import facts_of

log = logging.getLogger("mess.hub")
Source = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]


def read_source(
    source: Source,
    key: str | None,
    architecture: Architecture | None,
    about: Mapping[str, Any] | None,
    arch: str | None = None,
) -> tuple[nn.Module | Mapping[str, Tensor], Architecture | None, dict[str, Any], dict[str, Any]]:
    """Return the weights, which network they are, facts for the file, and all that a file of weights says of them.

    Args:
        key, architecture, about: what is given beside; the latter two come before what the file says.
        arch: the network that a file of weights is of, as `mess.foreign.catalogues` names it.

    Raises:
        CheckpointError: a file that is not there, damaged, or holds no weights.
    """
    if not isinstance(about or {}, Mapping):
        raise OptionError("about", "a mapping of names to JSON values", type(about).__name__)
    if not isinstance(source, str | os.PathLike):
        for flag, value in (("--key", key), ("--arch", arch)):
            if value is not None:
                raise OptionError(flag, "a file of weights beside it", type(source).__name__)
        return source, architecture, dict(about or {}), {}
    network, found, facts = read_network(source, key, arch)
    if architecture is None and (described := found.get("architecture")):
        architecture = Architecture.from_dict(described)
    return network, architecture, {**facts, **(about or {})}, found


def read_network(
    path: str | os.PathLike[str], key: str | None, arch: str | None
) -> tuple[nn.Module | Mapping[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return the weights of a file, or the network that comes with them, what is said of it, and what of that to keep.

    Raises:
        CheckpointError: a file that is not there, damaged, or holds no weights.
        OptionError: a key or a network beside an ONNX model, which is both.
        DownloadError: a file of the hub that cannot be had.
    """
    if hub.is_hub(path):
        return read_hub_network(path, key, arch)
    if is_onnx_file(path):
        if key is not None or arch is not None:
            raise OptionError("--key, --arch", "a file of weights beside it", "an ONNX model")
        return read_graph_network(os.fspath(path)), {}, {}
    weights, found = read_weights(path, key)
    if arch is None:
        return weights, found, input_facts(found)
    model, facts = filled(arch, weights, path)
    found.pop("architecture", None)
    return model, found | facts, input_facts(found) | facts


def read_hub_network(
    address: str | os.PathLike[str], key: str | None, arch: str | None
) -> tuple[nn.Module | Mapping[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Return what `read_network` does of a file of the hub; networks of timm that are there are built.

    What is said of it has "notes" in it, for people; the facts to keep, where the file is from.
    """
    found = hub.fetch(address, config=True)
    notes = [found.why] if found.why else []
    of_timm = network_of(found.config)
    read = None
    if of_timm is not None and arch is None:
        if installed("timm"):
            try:
                read = read_network(found.path, key, of_timm)
                notes.append(f"a network of {of_timm}, as config.json says")
            except MessError as error:
                notes.append(f"config.json says {of_timm}, which was not built: {error}")
        else:
            notes.append(f"config.json says {of_timm}: `pip install 'mess-cnn[timm]'` has it built and looked at")
    network, about, facts = read or read_network(found.path, key, arch)
    said = input_of(found.config)
    facts |= said | {"source": str(found.address)}
    if (names := class_names(found.config)) and isinstance(short := compact(names), list):
        facts["classes"] = short
    for note in notes:
        log.info(note)
    return network, about | said | {"notes": notes}, facts


def filled(arch: str, weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of that name with these weights, in eval mode, and facts for the file.

    Raises:
        OptionError: no such network.
        WeightsError: weights of another one, by name.
    """
    tensors, states = apart(weights)
    model, facts = build(arch, tensors)
    own = model.state_dict()
    counters = {n: own[n] for n in own if n.endswith("num_batches_tracked") and n not in tensors}
    fill(model, {**counters, **tensors}, path, states)
    return model.eval(), facts


def read_weights(path: str | os.PathLike[str], key: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and what their file says of them; of a `.mess` file those that it decodes to.

    Raises:
        CheckpointError: a file that is not there, damaged, or holds no weights.
        FormatError: a damaged `.mess` file.
        OptionError: a key beside a `.mess` file.
    """
    if not is_stored(path):
        return load_weights(path, key)
    if key is not None:
        raise OptionError("--key", "a checkpoint beside it, which may hold several weights", os.fspath(path))
    return read_with_description(path)


def projected_in(found: Mapping[str, Any], scheme: Scheme) -> frozenset[str]:
    """Return the names of tensors that are α·R + β of this very scheme as they are read, see `Request.projected`.

    Args:
        found: what is said of the weights, see `read_weights`; only `.mess` files say the scheme.
    """
    own, said = facts_of(scheme), found.get("scheme", {})
    same = all(said.get(part) == own.get(part) for part in ("version", "bind", "quant_bits"))
    return found.get("matched", frozenset()) if same else frozenset()


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a `.mess` file, by its first bytes, whatever its name is.

    Raises:
        CheckpointError: not there, or not to be read.
    """
    return read_bytes(path, len(MAGIC)) == MAGIC


def input_facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of the input it was trained on, as a `.mess` file keeps it."""
    facts = {name: found[name] for name in INPUT_FACTS if found.get(name) is not None}
    if isinstance(facts.get("classes"), list):
        facts["classes"] = compact(facts["classes"])
    return facts
