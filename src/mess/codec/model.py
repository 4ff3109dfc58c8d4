"""What a `.mess` file says, in memory: the form between matching and bytes. The codec loses nothing of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mess.arithmetic.levels import Levels
from mess.arithmetic.step_exponents import NO_EXPONENTS, Exponents
from mess.arithmetic.trellis import indices_of
from mess.codec.numbers import NumberArray
from mess.errors import FormatError

Layout = Callable[[dict[str, Any]], list[tuple[str, tuple[int, ...], str]]]
BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Codebook:
    """References that units point to.

    Attributes:
        source: the tensor they are cut from; None where they are numbers of their own (`numbers`, row-major).
        unit: numbers a reference.
        stride: from one reference to the next, within a row of the source.
        by_row: rows are those of the first dimension; otherwise a tensor is one row.
    """

    source: str | None
    unit: int
    stride: int
    by_row: bool
    numbers: NumberArray | None = None


@dataclass(frozen=True)
class Plain:
    """A tensor stored by itself."""

    shape: tuple[int, ...]
    dtype: str
    numbers: NumberArray


@dataclass(frozen=True)
class Matched:
    """A tensor stored by reference: for each unit its reference, scale and offset (None, None: a copy)."""

    shape: tuple[int, ...]
    dtype: str
    book: int
    index_N: np.ndarray
    scale_N: NumberArray | None
    offset_N: NumberArray | None


@dataclass(frozen=True)
class Expanded:
    """A tensor whose units are sums of all references of a codebook, Σ_k q_k·R_k.

    Attributes:
        book: the codebook of K references.
        integers_RCK: q, int32: rows (first dimension of the tensor), units a row, references.
        step: what all of q is multiplied with, a float32.
        exponents: by which the steps of rows, columns and references differ from it.
        levels: how large q is, and where it follows a trellis; None: it does not, and the writer finds how large.
    """

    shape: tuple[int, ...]
    dtype: str
    book: int
    integers_RCK: np.ndarray
    step: float
    exponents: Exponents = NO_EXPONENTS
    levels: Levels | None = None

    @property
    def trellised(self) -> bool:
        """Whether integers follow a trellis, so that they are about four times the indices that are coded."""
        return self.levels is not None and self.levels.has_trellises

    @property
    def indices(self) -> np.ndarray:
        """What is coded of the integers, (R, C, K): themselves, or the steps of a trellis."""
        return indices_of(self.integers_RCK) if self.trellised else self.integers_RCK


@dataclass(frozen=True)
class BatchNorm:
    """A BatchNorm layer as what it computes, x·scale + shift; stands under the layer's prefix."""

    scale: NumberArray
    shift: NumberArray
    eps: float
    tracked: bool


@dataclass(frozen=True)
class Tied:
    """The same tensor as another one."""

    to: str


Entry = Plain | Matched | Expanded | BatchNorm | Tied


@dataclass(frozen=True)
class StoredModel:
    """A whole network.

    Attributes:
        network: what names a network of the zoo, as plain JSON values; None for any other.
        scheme: version and options, as plain JSON values.
        books: the codebooks.
        entries: by name of the tensor; BatchNorm by the layer's prefix.
        graph: what the network computes, an ONNX model without these tensors; None where the file does not say it.
    """

    network: dict[str, Any] | None
    scheme: dict[str, Any]
    books: list[Codebook] = field(default_factory=list)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    graph: bytes | None = field(default=None, repr=False)


def joined(prefix: str, part: str) -> str:
    """Return the name of a layer's tensor."""
    return f"{prefix}.{part}" if prefix else part


def checked_shape(shape: Any, where: str) -> tuple[int, ...]:
    """Return a shape that comes out of a file.

    Raises:
        FormatError: not a list of at most 8 numbers 0 … 2^40, or more than 2^48 numbers in all; no numbers, but in a
            shape that NumPy cannot have.
    """
    good = isinstance(shape, list) and len(shape) <= 8 and all(type(d) is int and 0 <= d <= 1 << 40 for d in shape)
    if not good or math.prod(shape) > 1 << 48:
        raise FormatError(where, "a shape of at most 8 dimensions and 2^48 numbers", repr(shape)[:80])
    if math.prod(d or 1 for d in shape) >= 1 << 59:  # of eight bytes, with all of which strides are computed
        raise FormatError(where, "a shape whose dimensions other than 0 are 2^59 numbers at most", repr(shape)[:80])
    return tuple(shape)
