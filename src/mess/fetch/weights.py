"""Public weights of the zoo's networks: which there are, where, under which terms, and under our names.

`weights.json` lists them; `SOURCES` says how each source's names become ours. What a network's input looked like when
it was trained (mean, standard deviation, size) differs from source to source and stays with the weights.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess.errors import DownloadError, WeightsError
from mess.fetch.download import DownloadProgress, Remote, fetch, matches
from mess.files import atomic_write, cache_home
from mess.foreign.nested import unwrapped
from mess.foreign.weights_file import load_weights

# how a source's names become ours. "names": they are ours. "order": tensors correspond one by one, in the order of the
# layers; kind (weight, bias, running mean …) and shape of each have to agree
SOURCES = {"torchvision": "names", "akamaster": "names", "chenyaofo": "names", "imgclsmob": "order"}
NAMED_BY = ("arch", "layers", "width_mult", "groups")  # beside the dataset
HEADS = ("linear", "fc", "classifier", "output")


@dataclass(frozen=True)
class Weights:
    """One file of public weights.

    Attributes:
        arch, dataset, layers, width_mult, groups: the network, as in `Architecture`.
        source: whose they are; a key of `SOURCES`.
        hash: of the file (of the one inside, where it is zipped); the beginning of the digest.
        top1: percent, as the source says; None where it says none.
        mean, std: what its input was normalised by. resize, crop, interpolation: how it was tested.
    """

    arch: str
    dataset: str
    layers: int | None
    width_mult: float
    groups: int | None
    source: str
    url: str
    hash: str
    top1: float | None
    resize: int | None
    crop: int | None
    interpolation: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str

    @property
    def file(self) -> str:
        """Name of the file in the cache."""
        return self.url.rpartition("/")[2]


def public_weights() -> list[Weights]:
    """Return all that are known, the usual ones of a network before others."""
    rows = json.loads(Path(__file__).with_name("weights.json").read_text(encoding="utf-8"))
    return [Weights(**{**row, "mean": tuple(row["mean"]), "std": tuple(row["std"])}) for row in rows]


def find_weights(architecture: Any, *, best: bool = False) -> Weights:
    """Return the weights of a network (the first listed, or the most accurate).

    Args:
        architecture: a `mess.models.Architecture`; the class count is not looked at.

    Raises:
        DownloadError: there are none; says for which networks there are.
    """
    same = [w for w in public_weights() if _is(w, architecture)]
    if not same:
        known = sorted({w.arch for w in public_weights() if w.dataset == architecture.dataset})
        raise DownloadError(
            f"{architecture.slug} for {architecture.dataset}",
            "a network with public weights",
            "one without",
            f"On {architecture.dataset} there are {'some of ' + ', '.join(known) if known else 'none'}",
        )
    return max(same, key=lambda w: w.top1 or 0.0) if best else same[0]


def fetch_weights(
    weights: Weights, *, progress: DownloadProgress | None = None, offline: bool = False
) -> dict[str, Tensor]:
    """Return a state dict under the source's names, from the cache or the network.

    Raises:
        DownloadError: not to be had, or damaged.
        CheckpointError: a file that holds no weights, or could run code.
    """
    path = cache_folder() / weights.file
    zipped = path.suffix == ".zip"
    remote = Remote(weights.file, (weights.url,), "" if zipped else weights.hash, f"See {weights.url}")
    fetch(remote, path, progress=progress, offline=offline)
    return unwrapped(load_weights(_unzipped(path, weights.hash) if zipped else path)[0])


def load_pretrained(
    model: nn.Module,
    weights: Weights | None = None,
    *,
    progress: DownloadProgress | None = None,
    offline: bool = False,
) -> bool:
    """Load public weights into a network of the zoo.

    Returns:
        Whether the last layer was left as it was because the number of classes differs.

    Raises:
        DownloadError: there are none.
        WeightsError: they do not fit.
    """
    architecture: Any = model.architecture
    weights = weights or find_weights(architecture)
    state = fetch_weights(weights, progress=progress, offline=offline)
    return take_up(model, state, weights)


def take_up(model: nn.Module, state: Mapping[str, Tensor], weights: Weights) -> bool:
    """Load a source's state dict under our names; return whether the head was left out."""
    own = model.state_dict()
    counters = [name for name in own if name.endswith("num_batches_tracked")]
    found = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    if SOURCES[weights.source] == "order":
        found = _in_order([name for name in own if name not in counters], found, weights)
    head = [name for name in own if name.split(".")[0] in HEADS]
    replaced = any(name in found and found[name].shape != own[name].shape for name in head)
    if replaced:
        found = {name: tensor for name, tensor in found.items() if name not in head}
    allowed = {*counters, *(head if replaced else ())}
    missing = [n for n in own if n not in found and n not in allowed]
    wrong = [n for n in found if n not in own or own[n].shape != found[n].shape]
    if missing or wrong:
        odd = ", ".join((missing + wrong)[:3])
        raise WeightsError(weights.file, "weights that fit the network", f"others: {odd} do not fit")
    model.load_state_dict(found, strict=False)
    return replaced


def _in_order(names: list[str], found: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Give a source's tensors our names, one by one."""
    pairs = list(zip(names, found, strict=False))
    odd = [theirs for ours, theirs in pairs if ours.rpartition(".")[2] != theirs.rpartition(".")[2]]
    if odd or len(names) != len(found):
        what = f"{odd[0]} at another place" if odd else f"{len(found)}"
        raise WeightsError(weights.file, f"{len(names)} tensors in the order of the layers", what)
    return {ours: found[theirs] for ours, theirs in pairs}


def save_weights(model: nn.Module, weights: Weights, output: Path) -> None:
    """Write a network's weights with its description, for `mess test` and `mess compress`."""
    architecture: Any = model.architecture
    file = io.BytesIO()
    saved = {"architecture": architecture.to_dict(), "state_dict": model.state_dict(), **input_facts(weights)}
    torch.save(saved, file)
    atomic_write(output, file.getvalue())


def input_facts(weights: Weights) -> dict[str, Any]:
    """Return what a network's input has to look like: mean and std, and of images the sizes in tests."""
    facts = {"mean": list(weights.mean), "std": list(weights.std), "resize": weights.resize, "crop": weights.crop}
    return {name: value for name, value in facts.items() if value is not None}


def cache_folder() -> Path:
    """Return where fetched weights are kept: MESS_CACHE, else the user's own cache folder."""
    return Path(os.environ.get("MESS_CACHE") or cache_home() / "mess")


def _is(weights: Weights, architecture: Any) -> bool:
    dataset = architecture.dataset if architecture.cifar_form else "imagenet"  # which own images start from
    same = (getattr(weights, name) == getattr(architecture, name) for name in NAMED_BY)
    return weights.dataset == dataset and all(same)


def _unzipped(path: Path, expected: str) -> Path:
    """Return the one file of an archive, unpacked beside it and checked."""
    inner = path.with_suffix("")
    if not (inner.exists() and matches(inner, expected)):
        try:
            with zipfile.ZipFile(path) as packed:
                names = [n for n in packed.namelist() if n.endswith(".pth")]
                if len(names) != 1:
                    raise DownloadError(path, "an archive with one .pth file", f"{len(names)}")
                atomic_write(inner, packed.read(names[0]))
        except zipfile.BadZipFile as error:
            path.unlink()
            raise DownloadError(path, "a zip archive", "a damaged one", "It was removed: try again") from error
        if not matches(inner, expected):
            inner.unlink()
            path.unlink()
            raise DownloadError(path, f"weights with hash {expected}", "others", "They were removed: try again")
    return inner
