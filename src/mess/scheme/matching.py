"""Which reference stands for a unit, and with what scale and offset: exactly, in far less than all of the work.

The criterion is argmin over k of ‖α_k·R_k + β_k − w‖₁ with the least-squares fit α_k, β_k, the first k on ties. Take
the means out: the residual is ρ_k = w̃ − c_k·r_k with w̃ = w − w̄, r_k the centred reference of length 1 and
c_k = ⟨w̃, r_k⟩. One GEMM gives all c_k and with them ‖ρ_k‖₂² = ‖w̃‖² − c_k². A residual sums to zero, so its positive
and negative parts are equal, and

    √2·‖ρ‖₂ ≤ ‖ρ‖₁ ≤ √n·‖ρ‖₂        (the left side without centring would be ‖ρ‖₂)

The L1 distance U of the best in L2 is an upper bound of the minimum; only references with √2·‖ρ_k‖₂ ≤ U can be better,
and only for those the L1 distance is computed.

Why float32 is safe here: units and references are first scaled by powers of two to a largest number in [½, 1), which is
exact, so nothing under- or overflows. Errors of c_k and of the norms are below (n + 8)·2⁻²⁴·‖w̃‖ each; the threshold is
lowered by `MARGIN`·‖w̃‖², many times as much, so no minimum is lost, only a few more candidates are looked at. The
distances that decide are computed by one formula, element by element, so equal references have equal distances and the
first of them wins. Where two different references differ by less than float32 can tell, either may be chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mess.scheme.geometry import Geometry

MARGIN = 1e-5  # of ‖w̃‖²
CHUNK = 1 << 20  # numbers of a block of c (4 MiB)
PAIRS = 1 << 20  # candidates whose distances are computed at once


@dataclass(frozen=True)
class Matches:
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
    if full.scale_N is None or full.offset_N is None or short.scale_N is None or short.offset_N is None:
        return Matches(geometry.interleave(full.index_N, short.index_N), None, None)
    return Matches(
        geometry.interleave(full.index_N, short.index_N),
        geometry.interleave(full.scale_N, short.scale_N),
        geometry.interleave(full.offset_N, short.offset_N),
    )


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
    rows = max(1, CHUNK // max(1, len(unit_KU)))
    for start in range(0, len(units_NU), rows):
        part = slice(start, start + rows)
        _, centred_BU = _centred(_scaled(units_NU[part].double()))
        index_N[part] = _best_in_block(centred_BU.float(), unit_KU)
    return index_N


def _best_in_block(units_BU: Tensor, unit_KU: Tensor) -> Tensor:
    """Return the first minimum of the L1 distance for each centred unit."""
    products_BK = (units_BU @ unit_KU.T).abs_()
    most_B, best_B = products_BK.max(dim=1)
    bound_B = _distances(units_BU, unit_KU[best_B])
    square_B = (units_BU * units_BU).sum(1)
    least_B = (square_B * (1 - MARGIN) - bound_B * bound_B / 2).clamp_min_(0).sqrt_()
    candidates_BK = products_BK >= torch.minimum(least_B, most_B)[:, None]
    unit_P, ref_P = candidates_BK.nonzero(as_tuple=True)
    distance_P = torch.empty(len(unit_P), device=units_BU.device)
    for start in range(0, len(unit_P), PAIRS):
        part = slice(start, start + PAIRS)
        distance_P[part] = _distances(units_BU[unit_P[part]], unit_KU[ref_P[part]])
    smallest_B = torch.full((len(units_BU),), torch.inf, device=units_BU.device)
    smallest_B.scatter_reduce_(0, unit_P, distance_P, "amin")
    ties_P = distance_P == smallest_B[unit_P]
    first_B = torch.full((len(units_BU),), len(unit_KU), dtype=torch.int64, device=units_BU.device)
    return first_B.scatter_reduce_(0, unit_P[ties_P], ref_P[ties_P], "amin")


def _distances(units_PU: Tensor, unit_PU: Tensor) -> Tensor:
    """Return ‖w̃ − ⟨w̃, r⟩·r‖₁ of each pair."""
    products_P = (units_PU * unit_PU).sum(1, keepdim=True)
    return (units_PU - products_P * unit_PU).abs_().sum(1)


def _nearest(units_NU: Tensor, refs_KU: Tensor) -> Tensor:
    """Return argmin ‖R_k − w‖₁, the first on ties, with both sides scaled by one power of two."""
    refs, units = refs_KU.double(), units_NU.double()
    largest = max(float(refs.abs().max()), float(units.abs().max()) if len(units) else 0.0)
    factor = 2.0 ** -torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent.item() if largest else 1.0
    refs, units = refs * factor, units * factor
    index_N = torch.empty(len(units), dtype=torch.int64, device=units.device)
    rows = max(1, CHUNK // len(refs))
    for start in range(0, len(units), rows):
        part = slice(start, start + rows)
        index_N[part] = torch.cdist(units[part], refs, p=1).argmin(dim=1)
    return index_N


def _scaled(numbers_NU: Tensor) -> Tensor:
    """Scale each row by a power of two so that its largest number is in [½, 1); rows of zeros stay."""
    exponent_N = torch.frexp(numbers_NU.abs().amax(1, keepdim=True)).exponent
    return torch.ldexp(numbers_NU, -exponent_N)


def _centred(numbers_NU: Tensor) -> tuple[Tensor, Tensor]:
    means_N = numbers_NU.mean(1)
    return means_N, numbers_NU - means_N[:, None]
