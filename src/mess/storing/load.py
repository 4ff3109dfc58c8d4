"""From a `.mess` file back to tensors and networks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mess import codec, hub, models
from mess.class_folders import as_told
from mess.errors import FormatError, OptionError, WeightsError, first_few
from mess.extra_state import state_of, states_in
from mess.files import Source, path_or_bytes
from mess.foreign.catalogues import BUILT_BY, build_named
from mess.foreign.wrappers import plain_module
from mess.graphs.network import GraphNetwork
from mess.models.described import architecture_of, input_told, layout_of
from mess.scheme.order import in_natural_order
from mess.storing.entries import DTYPES

Module = TypeVar("Module", bound=nn.Module)


def load(
    path: Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int = 2**31,
) -> nn.Module:
    """Read a network, ready to run (in eval mode).

    Networks of the zoo, those that came as ONNX, and those of a catalogue (timm, torchvision) that is installed; from a
    file, its bytes, or the hub (``"hf://owner/name/net.mess"``).

    Args:
        path: a file, its bytes, or one that is open for reading.
        device: where its tensors are to be.
        dtype: of its floats; None: as they were stored.
        max_bytes: of its tensors in memory, with the indices and integers that they are computed from; a file that says
            more is refused before anything of it is decoded. While it is read, up to ten times that may be taken for a
            moment (made-up files of half-precision tensors), and mostly two to four times.

    Raises:
        FormatError: as `load_state_dict`.
        WeightsError: the file holds weights of a network that cannot be built here; `load_into` takes those.
        DownloadError: a file of the hub that cannot be had.
    """
    _check_dtype(dtype)
    path = hub.local(path_or_bytes(path))
    facts, found = codec.read_tensors(path, layout=layout_of, max_bytes=max_bytes)
    weights = _as_tensors(found, ordered=facts.network is not None)
    if facts.network is None and facts.graph is not None:
        said = _said(path)
        return GraphNetwork(facts.graph, weights, said).eval().to(device=device, dtype=dtype)
    if facts.network is None:
        model = built_from(facts.scheme, path)
    else:
        model = models.build(architecture_of(facts.network), initialised=False)
    fill(model, weights, path, states_in(facts.scheme), assign=True)
    return model.eval().to(device=device, dtype=dtype)


def _said(path: Source) -> str:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else "the file"


def _check_dtype(dtype: torch.dtype | None) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise OptionError("dtype", "a dtype of floats, as torch.float16", dtype)


def built_from(facts: Mapping[str, Any], path: Source) -> nn.Module:
    """Build the network that a file says its weights are of, from the catalogue it is in.

    Raises:
        WeightsError: it says none, or a catalogue that is not installed.
    """
    where = _said(path)
    hint = "mess.load_into(model, path) takes them"
    if BUILT_BY not in facts:
        raise WeightsError(where, "a network of the zoo", "weights of another network", hint)
    named = str(facts[BUILT_BY])
    try:
        return build_named(named, facts.get("num_classes"), facts.get("in_chans"))
    except OptionError as error:
        raise WeightsError(
            where, "a network that can be built here", f"weights of {named[:80]}: {error}", hint
        ) from error


def loads(
    content: bytes | bytearray | memoryview,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int = 2**31,
) -> nn.Module:
    """Read a network from the bytes of a file, as `dumps` returns them.

    Args:
        content: the bytes.
        device: as in `load`.
        dtype: as in `load`.
        max_bytes: as in `load`.

    Raises:
        FormatError, WeightsError: as `load`.
    """
    if not isinstance(content, bytes | bytearray | memoryview):
        raise FormatError("content", "the bytes of a file (mess.load takes its path)", type(content).__name__)
    return load(content, device=device, dtype=dtype, max_bytes=max_bytes)


def load_state_dict(
    path: Source,
    *,
    names: Iterable[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int = 2**31,
) -> dict[str, Tensor]:
    """Read the weights of a `.mess` file as ordinary tensors, by name; extra state of modules is `load_into`'s to set.

    Args:
        path: as in `load`.
        names: only these, in this order; nothing else is decoded.
        device: as in `load`.
        dtype: as in `load`.
        max_bytes: as in `load`.

    Raises:
        FormatError: the file breaks docs/FORMAT.md, or its tensors would take more than `max_bytes`.
    """
    _check_dtype(dtype)
    path, wanted = hub.local(path_or_bytes(path)), None if names is None else list(names)
    facts, found = codec.read_tensors(path, layout=layout_of, max_bytes=max_bytes, names=wanted)
    tensors = _as_tensors(found, ordered=wanted is not None or facts.network is not None)
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        for name, tensor in tensors.items()
    }


def load_into(model: Module, path: Source, *, max_bytes: int = 2**31) -> Module:
    """Read a file's weights into `model`, which must have exactly these names and shapes; returns `model`.

    Its tensors keep their own dtypes and devices. Wrappers (DataParallel, torch.compile) may be around it.

    Args:
        model: stays in the mode (training or eval) that it is in.
        path: as in `load`.
        max_bytes: as in `load`.

    Raises:
        FormatError: as `load_state_dict`.
        WeightsError: names that are missing or not expected, or a shape that differs; says which.
    """
    path = hub.local(path_or_bytes(path))
    facts, found = codec.read_tensors(path, layout=layout_of, max_bytes=max_bytes)
    fill(plain_module(model), _as_tensors(found), path, states_in(facts.scheme))
    return model


def read_with_description(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a file's weights, and what it says of them.

    That is "architecture" (if it names one), "scheme", `INPUT_FACTS` as far as they are said, and "matched", the names
    of the tensors that references of the network stand for.
    """
    stored = codec.read_model(path, layout=layout_of)
    matched = frozenset(name for name, entry in stored.entries.items() if isinstance(entry, codec.Matched))
    return to_tensors(stored), _description(stored) | {"matched": matched}


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file says of its weights, as `read_with_description`, and decode none of them."""
    return _description(codec.read_model(path, layout=layout_of, names=[]))


def _description(stored: codec.StoredModel) -> dict[str, Any]:
    about: dict[str, Any] = {"scheme": stored.scheme}
    if stored.network is not None:
        about["architecture"] = architecture_of(stored.network).to_dict()
    about |= input_told(stored.network, stored.scheme)
    if as_told(about.get("classes")) is None:
        about.pop("classes", None)
    return about


def read_references(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first codebook's references, float32 (K, U), and how many units point to each, int64 (K,)."""
    stored = codec.read_model(path, layout=layout_of)
    refs_KU = codec.references(stored, stored.books[0])
    uses_K = np.zeros(len(refs_KU), dtype=np.int64)
    for entry in stored.entries.values():
        if isinstance(entry, codec.Matched) and entry.book == 0:
            uses_K += np.bincount(entry.index_N, minlength=len(refs_KU))
    return refs_KU, uses_K


def to_tensors(stored: codec.StoredModel) -> dict[str, Tensor]:
    """Return a stored network's weights as torch tensors of their own dtypes, in the zoo's or else in natural order."""
    return _as_tensors(codec.reconstruct(stored), ordered=stored.network is not None)


def _as_tensors(found: dict[str, tuple[np.ndarray, str]], *, ordered: bool = True) -> dict[str, Tensor]:
    names = found if ordered else in_natural_order(found)
    return {name: as_tensor(*found[name]) for name in names}


def as_tensor(array: np.ndarray, dtype: str) -> Tensor:
    """Return a decoded tensor as torch's."""
    tensor = torch.from_numpy(array)
    return tensor.view(DTYPES[dtype]) if dtype in ("bfloat16", "bool") else tensor  # NumPy has these as integers


def fill(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    path: Source,
    states: Mapping[str, Any] = {},
    *,
    assign: bool = False,
) -> None:
    """Put weights, and extra state of modules, into a model that must have exactly these names; see `load_into`."""
    where = _said(path)
    own = model.state_dict()
    given = {**weights, **states}
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unexpected:
        told = {"without": missing, "with names that the model has not:": unexpected}
        found = "weights " + "; ".join(f"{kind} {first_few(names)}" for kind, names in told.items() if names)
        raise WeightsError(where, "the model's names", found)
    for name, tensor in own.items():
        if name in weights and isinstance(tensor, Tensor) and tensor.shape != weights[name].shape:
            raise WeightsError(f"{where}: {name}", f"shape {tuple(tensor.shape)}", tuple(weights[name].shape))
    model.load_state_dict(state_of(model, given), assign=assign)
