"""Which reference stands for a unit, and with what scale and offset: the whole of the definition, at a GEMM's pace.

The criterion is argmin over k of ‖α_k·R_k + β_k − w‖₁ with the least-squares fit α_k, β_k, the first k on ties. Take
the means out: the residual is w̃ − c_k·r_k with w̃ = w − w̄, r_k the centred reference of length 1 and c_k = ⟨w̃, r_k⟩.
One GEMM gives all c_k. The L1 distances of all pairs are then summed up number by number of a unit, over tiles of
units × references that stay in the processor's cache: two passes a number, against the one pass through memory that
the product itself costs. This is less work than to rule pairs out first: of real kernels, a quarter of all pairs
survives the bound √2·‖ρ‖₂ ≤ ‖ρ‖₁ (docs/results/speed.md).

Why float32 is safe here: units and references are first scaled by powers of two to a largest number in [½, 1), which is
exact, so nothing overflows, and what underflows is 2⁻¹²⁶ of its unit's largest number. The errors of c_k, of each
difference and of their sum are below (2n + 8)·2⁻²⁴·‖w̃‖₁ in all. All distances are computed by one formula, number by
number, so equal references have equal distances and the first of them wins. Where two different references differ by
less than float32 can tell, either may be chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mess.scheme.matched.geometry import Geometry

BLOCK = 512  # units of a tile
TILE = 1 << 17  # pairs of a tile: three arrays of float32 in 1.5 MiB, about a core's own cache
# elsewhere, where starting an operation costs more than its arithmetic: 64 MiB each
LARGE_BLOCK, LARGE_TILE = 1 << 14, 1 << 24


class Matches(NamedTuple):
    """What stands for N units: reference number (int64), scale and offset (float32; None for plain copies)."""

    index_N: Tensor
    scale_N: Tensor | None
    offset_N: Tensor | None


def match(units_NU: Tensor, refs_KU: Tensor, fit: str = "affine") -> Matches:
    """Match every unit with its reference.

    Args:
        units_NU: N units of U numbers, any real dtype and device.
        refs_KU: K ≥ 1 references.
        fit: "affine" or "copy" (argmin ‖R_k − w‖₁, no scale, no offset).

    Example:
        >>> refs = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> m = match(torch.tensor([[3.0, 1.0, 1.0]]), refs)
        >>> m.index_N.item(), m.scale_N.item(), m.offset_N.item()
        (1, 2.0, 1.0)
    """
    units_NU, refs_KU = units_NU.detach(), refs_KU.detach()
    if fit == "copy":
        return Matches(_nearest(units_NU, refs_KU), None, None)
    index_N = _best_affine(units_NU, refs_KU)
    scale_N, offset_N = fit_for_index(units_NU, refs_KU, index_N)
    return Matches(index_N, scale_N, offset_N)


def fit_for_index(units_NU: Tensor, refs_KU: Tensor, index_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least-squares α and β, float32, of each unit on the reference it has; computed in float64.

    A constant reference gives α = 0 and β = w̄, and so does a scale too large for float32.
    """
    refs_KU, units_NU = refs_KU.double(), units_NU.double()
    means_K, centred_KU = _centred(refs_KU)
    means_N, centred_NU = _centred(units_NU)
    chosen_NU = centred_KU[index_N]
    # both sides by the reference's largest number, so that squares of 1e-200 do not vanish
    largest_N = chosen_NU.abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
    chosen_NU = chosen_NU / largest_N[:, None]
    square_N = (chosen_NU * chosen_NU).sum(1)
    scale_N = (centred_NU * chosen_NU).sum(1) / square_N.clamp_min(torch.finfo(torch.float64).tiny) / largest_N
    usable_N = (square_N > 0) & (scale_N.abs() <= torch.finfo(torch.float32).max)
    scale_N = torch.where(usable_N, scale_N, torch.zeros_like(scale_N)).float()
    return scale_N, (means_N - scale_N.double() * means_K[index_N]).float()


def refit_offset(units_NU: Tensor, refs_KU: Tensor, index_N: Tensor, scale_N: Tensor) -> Tensor:
    """Return the β, float32, that is best for the α at hand (a rounded one, say): β = w̄ − α·R̄."""
    means_K = refs_KU.double().mean(1)
    return (units_NU.double().mean(1) - scale_N.double() * means_K[index_N]).float()


def rebuild(matches: Matches, refs_KU: Tensor) -> Tensor:
    """Return the units that the matches stand for: float32 product, rounded, then float32 sum, rounded."""
    units_NU = refs_KU.float()[matches.index_N]
    if matches.scale_N is None or matches.offset_N is None:
        return units_NU
    return units_NU.mul_(matches.scale_N[:, None]).add_(matches.offset_N[:, None])


def match_tensor(weight: Tensor, geometry: Geometry, refs_KU: Tensor, fit: str) -> Matches:
    """Match all units of a tensor in their order, short ones with as much of each reference as they have."""
    full_NU, short_MU = geometry.cut(weight.detach())
    full = match(full_NU, refs_KU, fit)
    if not geometry.short_unit:
        return full
    short = match(short_MU, refs_KU[:, : geometry.short_unit], fit)
    both = zip(full, short, strict=True)
    return Matches(*(None if a is None or b is None else geometry.interleave(a, b) for a, b in both))  # type: ignore[arg-type]


def rebuild_tensor(matches: Matches, geometry: Geometry, refs_KU: Tensor) -> Tensor:
    """Return the float32 tensor that the matches of all its units stand for."""
    index = geometry.separate(matches.index_N)
    parts = []
    for place, refs in enumerate((refs_KU, refs_KU[:, : geometry.short_unit])):
        scale, offset = (
            None if x is None else geometry.separate(x)[place] for x in (matches.scale_N, matches.offset_N)
        )
        parts.append(rebuild(Matches(index[place], scale, offset), refs))
    return geometry.join(*parts)


def _best_affine(units_NU: Tensor, refs_KU: Tensor) -> Tensor:
    _, centred_KU = _centred(_scaled(refs_KU.double()))
    lengths_K = centred_KU.norm(dim=1, keepdim=True)
    unit_KU = torch.where(lengths_K > 0, centred_KU / lengths_K.clamp_min(1e-300), torch.zeros_like(centred_KU)).float()
    index_N = torch.empty(len(units_NU), dtype=torch.int64, device=units_NU.device)
    block, _ = _tile(units_NU.device)
    for start in range(0, len(units_NU), block):
        part = slice(start, start + block)
        _, centred_BU = _centred(_scaled(units_NU[part].double()))
        index_N[part] = _first_nearest(centred_BU.float(), unit_KU, project=True)
    return index_N


def _nearest(units_NU: Tensor, refs_KU: Tensor) -> Tensor:
    """Return argmin ‖R_k − w‖₁, the first on ties, with both sides scaled by one power of two."""
    refs, units = refs_KU.double(), units_NU.double()
    largest = max(float(refs.abs().max()), float(units.abs().max()) if len(units) else 0.0)
    factor = 2.0 ** -torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent.item() if largest else 1.0
    refs, units = (refs * factor).float(), (units * factor).float()
    index_N = torch.empty(len(units), dtype=torch.int64, device=units.device)
    block, _ = _tile(units.device)
    for start in range(0, len(units), block):
        index_N[start : start + block] = _first_nearest(units[start : start + block], refs, project=False)
    return index_N


def _first_nearest(units_BU: Tensor, refs_KU: Tensor, *, project: bool) -> Tensor:
    """Return, for each unit, the first k that is nearest in L1: to R_k, or with `project` to its multiples."""
    units_UB, refs_UK1 = units_BU.T.contiguous(), refs_KU.T.contiguous()[:, :, None]
    block, tile = _tile(units_BU.device)
    rows = max(1, tile // block)
    best_B = units_BU.new_full((len(units_BU),), torch.inf)
    index_B = torch.zeros(len(units_BU), dtype=torch.int64, device=units_BU.device)
    for first in range(0, len(refs_KU), rows):
        refs_UT1 = refs_UK1[:, first : first + rows]
        products_TB = refs_UT1[:, :, 0].T @ units_UB if project else None
        distances_TB = _distances(units_UB, refs_UT1, products_TB)
        nearest_B = distances_TB.amin(0)
        closer_B = nearest_B < best_B  # strictly: an earlier tile wins ties
        index_B = torch.where(closer_B, first + _first_equal(distances_TB, nearest_B), index_B)
        best_B = torch.minimum(best_B, nearest_B)
    return index_B


def _tile(device: torch.device) -> tuple[int, int]:
    """Return units of a tile and its pairs."""
    return (BLOCK, TILE) if device.type == "cpu" else (LARGE_BLOCK, LARGE_TILE)


def _distances(units_UB: Tensor, refs_UT1: Tensor, products_TB: Tensor | None) -> Tensor:
    """Return the L1 distance of each pair, (T, B): Σ_u |w_u − c·r_u|, c from `products_TB` or 1."""
    distances_TB = units_UB.new_zeros(refs_UT1.shape[1], units_UB.shape[1])
    residual_TB = torch.empty_like(distances_TB)
    for unit_B, ref_T1 in zip(units_UB, refs_UT1, strict=True):
        if products_TB is None:
            torch.sub(unit_B, ref_T1, out=residual_TB)
        else:
            torch.addcmul(unit_B, products_TB, ref_T1, value=-1, out=residual_TB)
        distances_TB.add_(residual_TB.abs_())
    return distances_TB


def _first_equal(distances_TB: Tensor, smallest_B: Tensor) -> Tensor:
    """Return the first t with distance == smallest; `distances_TB` is overwritten. Several times as fast as argmin."""
    count = len(distances_TB)
    order_T1 = torch.arange(count, device=distances_TB.device, dtype=distances_TB.dtype)[:, None]
    return distances_TB.sub_(smallest_B).sign_().mul_(count).add_(order_T1).amin(0).long()


def _scaled(numbers_NU: Tensor) -> Tensor:
    """Scale each row by a power of two so that its largest number is in [½, 1); rows of zeros stay."""
    exponent_N = torch.frexp(numbers_NU.abs().amax(1, keepdim=True)).exponent
    return torch.ldexp(numbers_NU, -exponent_N)


def _centred(numbers_NU: Tensor) -> tuple[Tensor, Tensor]:
    means_N = numbers_NU.mean(1)
    return means_N, numbers_NU - means_N[:, None]
