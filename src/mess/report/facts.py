"""What a report says of one file: its bytes, its references and how they are used, its numbers, and what it lost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mess import codec
from mess.arithmetic.trellis import QUARTERS
from mess.codec.reconstruct import Tensor
from mess.codec.rows import is_weight
from mess.inspection import inspect
from mess.models.described import layout_of

MAGNITUDES = (0, 1, 2, 3, 5, 9)  # of integers: where each class that is counted together begins
MAX_WORST = 12
UNRELATED = 0.2  # cosine below which two networks' weights have nothing to do with one another


@dataclass(frozen=True)
class Book:
    """A codebook and how it is used.

    Attributes:
        kernel: sides of the kernels that a reference is made of; () where it is a slice of a row.
        refs_KU: references, float32.
        uses_K: units that point to each; None where units are sums of all references.
        scale_N, offset_N: α and β of all units; None where there are none.
        terms_TM: of sums, how many integers of each term are in each class of `MAGNITUDES`; None elsewhere. Of a
            trellis its steps count, which are what is coded.
    """

    kernel: tuple[int, ...]
    refs_KU: np.ndarray = field(repr=False)
    uses_K: np.ndarray | None = field(repr=False, default=None)
    scale_N: np.ndarray | None = field(repr=False, default=None)
    offset_N: np.ndarray | None = field(repr=False, default=None)
    terms_TM: np.ndarray | None = field(repr=False, default=None)

    @property
    def what(self) -> str:
        """What a reference is, in words."""
        unit = self.refs_KU.shape[1]
        if not self.kernel:
            return "single weights" if unit == 1 else f"slices of {unit} weights"
        kernels = unit // math.prod(self.kernel)
        size = "×".join(map(str, self.kernel))
        return f"{size} kernels" if kernels == 1 else f"units of {kernels} {size} kernels"

    @property
    def order(self) -> np.ndarray:
        """References, the most used first; those of sums as they stand."""
        return np.arange(len(self.refs_KU)) if self.uses_K is None else np.argsort(-self.uses_K, kind="stable")


@dataclass(frozen=True)
class WorstKernel:
    """One kernel, before and after; `error` is ‖w − ŵ‖² over the mean ‖w‖² of its layer's kernels."""

    layer: str
    place: tuple[int, int]
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    error: float


@dataclass(frozen=True)
class Loss:
    """What storing changed, w to ŵ.

    Attributes:
        total: ‖w − ŵ‖² / ‖w‖² of all weights, and `by_layer` of each layer's.
        alike: the cosine between w and ŵ.
        worst: the kernels that changed most.
    """

    total: float
    alike: float
    by_layer: dict[str, float]
    worst: list[WorstKernel]


@dataclass(frozen=True)
class FileFacts:
    """Everything about one file.

    Attributes:
        steps: the step of each layer of sums; of one whose integers follow a trellis, of those that it steps by.
        loss: against the original weights, where these are known.
    """

    path: Path
    info: codec.FileInfo
    books: list[Book]
    steps: dict[str, float]
    loss: Loss | None = None


def read_facts(path: str | os.PathLike[str], originals: Sequence[Mapping[str, np.ndarray]] = ()) -> FileFacts:
    """Read a file and compare it with those of the original weights that it is nearest to.

    Weights of another training of the same network are not its original: they are no more alike than chance.

    Raises:
        FormatError: the file breaks docs/FORMAT.md.
    """
    info = inspect(path)
    stored = codec.read_model(path, layout=layout_of)
    books = [found for number in range(len(stored.books)) if (found := _book(stored, number)) is not None]
    steps = {
        name: entry.step * (QUARTERS if entry.trellised else 1)
        for name, entry in stored.entries.items()
        if isinstance(entry, codec.Expanded)
    }
    losses = [compare(stored, info, weights) for weights in originals if fits(info, weights)]
    loss = min((x for x in losses if x.alike > UNRELATED), key=lambda x: x.total, default=None)
    return FileFacts(Path(path), info, books, steps, loss)


def fits(info: codec.FileInfo, weights: Mapping[str, np.ndarray]) -> bool:
    """Return whether weights have every layer of the file, with its shape."""
    return all(t.name in weights and weights[t.name].shape == t.shape for t in info.tensors if is_weight(t))


def compare(stored: codec.StoredModel, info: codec.FileInfo, weights: Mapping[str, np.ndarray]) -> Loss:
    """Return what storing changed of the layers of weights."""
    decoded = codec.reconstruct(stored)
    by_layer: dict[str, float] = {}
    worst: list[WorstKernel] = []
    lost = whole = kept = shared = 0.0
    for tensor in info.tensors:
        if not is_weight(tensor):
            continue
        before, after = weights[tensor.name].astype(np.float64), as_floats(decoded[tensor.name]).astype(np.float64)
        difference, energy = float(np.square(before - after).sum()), float(np.square(before).sum())
        lost, whole, kept = lost + difference, whole + energy, kept + float(np.square(after).sum())
        shared += float((before * after).sum())
        by_layer[tensor.name] = difference / max(energy, 1e-300)
        if len(tensor.shape) == 4 and math.prod(tensor.shape[2:]) > 1:
            worst += _worst(tensor.name, before, after)
    worst.sort(key=lambda kernel: -kernel.error)
    alike = shared / max((whole * kept) ** 0.5, 1e-300)
    return Loss(
        lost / max(whole, 1e-300), alike, by_layer, [kernel for kernel in worst[:MAX_WORST] if kernel.error > 0]
    )


def as_floats(tensor: Tensor) -> np.ndarray:
    """Return a decoded tensor as float32."""
    array, dtype = tensor
    return codec.NumberArray(array.reshape(-1), dtype).floats().reshape(array.shape)


def _worst(layer: str, before: np.ndarray, after: np.ndarray) -> list[WorstKernel]:
    error_OI = np.square(before - after).sum((2, 3)) / max(float(np.square(before).sum((2, 3)).mean()), 1e-300)
    order = np.argsort(-error_OI, axis=None, kind="stable")[:MAX_WORST]
    places = [(int(o), int(i)) for o, i in zip(*np.unravel_index(order, error_OI.shape), strict=True)]
    return [WorstKernel(layer, place, before[place], after[place], float(error_OI[place])) for place in places]


def _book(stored: codec.StoredModel, number: int) -> Book | None:
    """Return a codebook and its use; None for one that nothing uses."""
    book = stored.books[number]
    members = [e for e in stored.entries.values() if isinstance(e, codec.Matched | codec.Expanded) and e.book == number]
    if not members:
        return None
    refs_KU = codec.references(stored, book)
    sizes = {entry.shape[2:] for entry in members if not book.by_row and math.prod(entry.shape[2:]) > 1}
    kernel = next((size for size in sizes if len(size) == 2 and book.unit % math.prod(size) == 0), ())
    sums = [entry for entry in members if isinstance(entry, codec.Expanded)]
    if sums:
        return Book(kernel, refs_KU, terms_TM=sum((_magnitudes(e.indices) for e in sums), np.int64(0)))
    matched = [entry for entry in members if isinstance(entry, codec.Matched)]
    uses_K = np.bincount(np.concatenate([entry.index_N for entry in matched]), minlength=len(refs_KU))
    scales = [entry.scale_N.floats() for entry in matched if entry.scale_N is not None]
    offsets = [entry.offset_N.floats() for entry in matched if entry.offset_N is not None]
    scale_N, offset_N = (np.concatenate(x) if x else None for x in (scales, offsets))
    return Book(kernel, refs_KU, uses_K, scale_N, offset_N)


def _magnitudes(indices_RCK: np.ndarray) -> np.ndarray:
    """Return how many integers of each term are in each class of `MAGNITUDES`, (K, 6)."""
    class_NK = np.searchsorted(MAGNITUDES, np.abs(indices_RCK.reshape(-1, indices_RCK.shape[2])), side="right") - 1
    return np.stack([(class_NK == place).sum(0) for place in range(len(MAGNITUDES))], axis=1)
