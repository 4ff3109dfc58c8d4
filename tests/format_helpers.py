"""Small made-up files of every version."""

from __future__ import annotations

import numpy as np
import torch

from mess import codec
from mess.arithmetic.levels import CONTEXTS, trellised
from mess.arithmetic.trellis import integers_of
from mess.storing import Request, StoreOptions, identify, to_stored

# written in a quarter of the time that float32 takes: for what does not hang on how numbers are told
FEW_BITS = {"scale_bits": 8, "offset_bits": 8, "rest_bits": 8}
FEW_BITS_TYPED = ("--scale-bits", "8", "--offset-bits", "8", "--rest-bits", "8")


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a made-up state dict with everything in it that a file can hold."""
    random_ = torch.Generator().manual_seed(seed)
    state = {
        "a.weight": torch.randn(4, 3, 3, 3, generator=random_),
        "b.weight": torch.randn(6, 4, 3, 3, generator=random_),
        "c.weight": torch.randn(5, 6, 3, 3, generator=random_),
        "p1.weight": torch.randn(6, 7, 1, 1, generator=random_),
        "p2.weight": torch.randn(3, 6, 1, 1, generator=random_),
        "fc.weight": torch.randn(3, 5, generator=random_),
        "half": torch.randn(9, generator=random_).half(),
        "brain": torch.randn(9, generator=random_).bfloat16(),
        "count": torch.tensor(-(2**40)),
        "mask": torch.tensor([True, False, True]),
        "none": torch.empty(0, 4),
    }
    state["tied"] = state["fc.weight"]
    return state


def example(version: str, *, pointwise: int | None = 4, bits: int = 8) -> codec.StoredModel:
    """Return a made-up network stored under a version."""
    fitted = {} if version == "v1" else {"scale_bits": bits, "offset_bits": bits}
    others = {"rest_bits": bits if bits == 32 else 16, "pointwise": pointwise}
    request = Request(StoreOptions(version, **fitted, **others), about={"note": "made up"})
    return to_stored(identify(weights()), request)


def example_any_floats() -> codec.StoredModel:
    """Return a made-up network with NaN and infinity in buffers of all dtypes of floats."""
    numbers = torch.tensor([0.0, -torch.inf, torch.inf, torch.nan, 0.1, -0.0])
    buffers = {f"buffer.{dtype}": numbers.to(dtype) for dtype in (torch.float32, torch.half, torch.bfloat16)}
    buffers |= {
        "mask": torch.full((3, 2), -torch.inf),
        "wide": numbers.double() / 3,
        "beyond": torch.tensor([1e300]).double(),
    }
    buffers["tied_mask"] = buffers["mask"]
    return to_stored(identify({**weights(), **buffers}), Request(StoreOptions("v2", **FEW_BITS)))


def example_v4(*, exponents: bool = False, trellises: bool = False) -> codec.StoredModel:
    """Return a made-up network of sums of references: kernels of two layers of one size, a matrix, a bias.

    Args:
        exponents: steps by row, column and term.
        trellises: levels by row and column, and integers that follow trellises, of some contexts or of all.
    """
    rows_7, columns_5, terms_9 = (np.arange(size) * 5 % 11 - 4 for size in (7, 5, 9))
    own = [codec.Exponents(rows_7, columns_5, terms_9), codec.Exponents(None, columns_5 * 3, None), codec.Exponents()]
    steps = own if exponents else [codec.Exponents()] * 3
    level_K = 52 - np.arange(9)
    told = [
        codec.Levels(level_K, rows_7 * 3, columns_5, 24),
        codec.Levels(level_K - 2, None, columns_5 * 3, 48),
        codec.Levels(np.array([54]), None, None, 0),
    ]
    rows, columns, terms = np.ogrid[:7, :5, :9]
    values = (((rows * 7 + columns * 3 + terms * 5) % 11 - 5) // (1 + terms // 2)).astype(np.int32)
    integers = [values, values[::-1] // 2, np.resize(values, (4, 30, 1))]
    if trellises:
        integers = [of_trellis(indices, levels) for indices, levels in zip(integers, told, strict=True)]
    levels = told if trellises else [None] * 3
    references = codec.NumberArray((np.arange(81) * 37 % 101 - 50).astype(np.int32), "int32", 0.001)
    one = codec.NumberArray(np.ones(1, dtype=np.int32), "int32", 1.0)
    books = [codec.Codebook(None, 1, 1, False, one), codec.Codebook(None, 9, 9, False, references)]
    norm = [codec.NumberArray(np.arange(7, dtype=np.int32) - shift, "int32", 0.25) for shift in (1, 4)]
    entries: dict[str, codec.Entry] = {
        "a.weight": codec.Expanded((7, 5, 3, 3), "float32", 1, integers[0], 0.125, steps[0], levels[0]),
        "b.weight": codec.Expanded((7, 5, 3, 3), "float32", 1, integers[1], 0.1, steps[1], levels[1]),
        "bn": codec.BatchNorm(*norm, eps=1e-5, tracked=True),
        "fc.weight": codec.Expanded((4, 30), "float32", 0, integers[2], 0.3, steps[2], levels[2]),
        "fc.bias": codec.Plain((3,), "float32", codec.NumberArray(np.arange(3, dtype=np.float32), "float32")),
    }
    return codec.StoredModel(None, {"version": "v4"}, books, entries)


def of_trellis(indices_RCK: np.ndarray, levels: codec.Levels) -> np.ndarray:
    """Return what indices stand for: themselves where there is no trellis."""
    if levels.trellised_from == CONTEXTS:
        return indices_RCK
    return integers_of(indices_RCK, trellised(levels, *indices_RCK.shape[:2]))
