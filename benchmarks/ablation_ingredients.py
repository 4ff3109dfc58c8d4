"""What version 4 is made of, and the plain thing that takes the place of each part while `ablation.py` measures.

Nothing in the package can be switched off: `swapped` puts other functions where rounding looks its own up, for as long
as it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from mess.arithmetic.step_exponents import NO_EXPONENTS, Exponents
from mess.scheme.learned import curvature, rounding, step_sizes
from mess.scheme.learned.sensitivity import Sensitivity

learn = import_module("mess.scheme.learned.learn")  # the package calls the function in it so
Swap = tuple[Any, str, Callable[[Any], Any]]  # where, what, and what makes the plain thing of the one that is there


@dataclass(frozen=True)
class Ingredient:
    """One part of the method.

    Attributes:
        does: what it is.
        without: what is done in its place.
        source: where it is from.
        swaps: what takes the place of it.
        finer: λ is so much smaller without it, as files would else stray beyond all that are compared.
        coder: it changes the length of the file alone, and no weight.
    """

    does: str
    without: str
    source: str
    swaps: tuple[Swap, ...]
    finer: float = 1.0
    coder: bool = False


@contextmanager
def swapped(swaps: tuple[Swap, ...]) -> Iterator[None]:
    """Put other functions in the place of some for a while."""
    with ExitStack() as stack:
        for place, name, made in swaps:
            stack.enter_context(patch.object(place, name, made(getattr(place, name))))
        yield


def _pixels(shared_bases: Callable[..., dict[Any, Tensor]]) -> Any:
    return lambda layers: {key: torch.eye(len(b), dtype=b.dtype) for key, b in shared_bases(layers).items()}


def _one_step_along(axis: str) -> Callable[[Any], Any]:
    def made(fitted: Callable[..., Exponents]) -> Any:
        return lambda *args: fitted(*args)._replace(**{axis: None})

    return made


def _no_curvature(output_sensitivity: Callable[..., Sensitivity]) -> Any:
    return lambda *args, **options: replace(output_sensitivity(*args, **options), curvature={})


def _diagonal(_: Any) -> Any:
    def made(second_moment_Gnn: Tensor) -> Tensor:
        diagonal_Gn = second_moment_Gnn.diagonal(dim1=1, dim2=2)
        damped_Gn = diagonal_Gn + rounding.DAMPING * diagonal_Gn.mean(1, keepdim=True).clamp_min(1e-12)
        return damped_Gn.rsqrt().diag_embed()

    return made


def _least_shrunk(_: Any) -> Any:
    return lambda *_: step_sizes.SHARES[-1]


def _as_seen(second_moments: Callable[..., Any]) -> Any:
    """Let the layer make of what it sees what the float weight makes of that, not what the float network has there."""
    return lambda stored, _, layer, weight: second_moments(stored, stored, layer, weight)


def _alike(output_sensitivity: Callable[..., Sensitivity]) -> Any:
    def made(*args: Any, **options: Any) -> Sensitivity:
        found = output_sensitivity(*args, **options)
        return replace(
            found, channels={name: torch.full_like(g, float(g.mean())) for name, g in found.channels.items()}
        )

    return made


def _one_by_one(_: Any) -> Any:
    return lambda problems, step: (*rounding.round_all(problems, step), step, None)


def _half_precision(vector_bits: Callable[..., Mapping[str, int]]) -> Any:
    return lambda *args: dict.fromkeys(vector_bits(*args), 16)


INGREDIENTS = {
    "references": Ingredient(
        "kernels are sums of the eigen-kernels of their size, which are uncorrelated; 1×1 layers have none",
        "each reference is a single pixel, so that kernels are rounded number by number",
        "principal components (Karhunen-Loève) of all kernels of a size",
        ((learn, "shared_bases", _pixels),),
    ),
    "steps": Ingredient(
        "rows, columns and terms have steps of their own, quarter octaves apart, so that all numbers lose alike",
        "one step a layer, for rows, columns and terms alike",
        "reverse water-filling; WaterSIC (arXiv 2603.04956)",
        ((learn, "fitted_exponents", lambda _: lambda *_: NO_EXPONENTS),),
    ),
    "column steps": Ingredient(
        "of these, those of input channels",
        "input channels share a step; rows and terms keep theirs",
        "WaterSIC (arXiv 2603.04956)",
        ((learn, "fitted_exponents", _one_step_along("columns_C")),),
    ),
    "row steps": Ingredient(
        "of these, those of output channels",
        "output channels share a step; columns and terms keep theirs",
        "reverse water-filling over output channels",
        ((learn, "fitted_exponents", _one_step_along("rows_R")),),
    ),
    "term steps": Ingredient(
        "of these, those of references",
        "references share a step; rows and columns keep theirs",
        "reverse water-filling over references",
        ((learn, "fitted_exponents", _one_step_along("terms_K")),),
    ),
    "curvature": Ingredient(
        "what an error does at all places of a picture adds up before it is squared",
        "errors at different places of a picture are counted apart: H is the second moment of patches",
        "YAQA (arXiv 2505.22988), its factor of columns",
        ((learn, "output_sensitivity", _no_curvature),),
        finer=4,
    ),
    "error feedback": Ingredient(
        "the numbers of a row that follow make up for the error of one",
        "the error of a number is not passed on to those that follow: H is its diagonal when numbers are rounded",
        "GPTQ (arXiv 2210.17323)",
        ((learn, "inverse_cholesky_", _diagonal),),
    ),
    "target": Ingredient(
        "a layer is fitted to what the float layer answers, on what is left of its inputs",
        "the float weight is what is rounded, whatever rounding did to the layers before it",
        "least squares on the inputs that the stored network sees",
        ((learn, "second_moments", _as_seen),),
    ),
    "channels": Ingredient(
        "errors of an output channel count as much as the answers change with it",
        "all output channels of a layer matter alike, as much as they do on average (and so share a step)",
        "the Gauss-Newton diagonal (Schraudolph 2002)",
        ((learn, "output_sensitivity", _alike),),
    ),
    "trellises": Ingredient(
        "numbers that are not small are rounded together, down each column, by a trellis of eight states",
        "each number is rounded to the nearest integer",
        "trellis-coded quantisation (Marcellin and Fischer 1990)",
        ((learn, "rounded_in_trellises", _one_by_one),),
    ),
    "shrinkage": Ingredient(
        "H is drawn towards what is known better, as far as one half of the inputs tells best of the other",
        "second moments are shrunk as little as ever, and nothing is asked of the second half of the inputs",
        "shrinkage (Ledoit and Wolf 2004), by cross-validation",
        ((step_sizes, "best_share", _least_shrunk), (curvature, "best_share", _least_shrunk)),
    ),
    "vectors": Ingredient(
        "scales, shifts and biases have as many bits as they are worth, 6 to 12",
        "scales and shifts of BatchNorm, and biases, are in half precision",
        "the same λ as for weights",
        ((learn, "vector_bits", _half_precision),),
    ),
    "levels": Ingredient(
        "an integer's table follows from how large those of its row and its column are, which the file says",
        "one table for each size of a term",
        "context modelling (FORMAT.md, clause 10)",
        (),
        coder=True,
    ),
}  # fmt: skip
