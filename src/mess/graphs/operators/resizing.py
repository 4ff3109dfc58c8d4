"""Making images larger or smaller."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mess.graphs.operators.table import Attributes, Operator, UnknownError

EXACT = 1e-4  # places


def resize(
    attributes: Attributes,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Resize the last dimensions; opset 10 and `Upsample` give scales where later ones give a region."""
    if scales is None and sizes is None and roi is not None:
        scales = roi
    given = scales.tolist() if scales is not None and scales.numel() else attributes.get("scales")
    mode = attributes.get("mode", "nearest")
    if attributes.get("axes"):
        raise UnknownError("Resize along some axes")
    if sizes is not None and sizes.numel():
        wanted = [int(size) for size in sizes.tolist()]
        given = [new / old for new, old in zip(wanted, x.shape, strict=True)]
    else:
        wanted = [int(old * factor) for old, factor in zip(x.shape, given, strict=True)]
    if wanted[:2] != list(x.shape[:2]):
        raise UnknownError("Resize of channels")
    align = attributes.get("coordinate_transformation_mode", "half_pixel" if attributes.opset >= 11 else "asymmetric")
    if mode == "nearest":
        for axis in range(2, x.dim()):
            places = _nearest(attributes, x.shape[axis], wanted[axis], given[axis], align)
            x = x.index_select(axis, places.to(x.device))
        return x
    if mode not in ("linear", "cubic", "bilinear") or x.dim() not in (3, 4, 5) or attributes.get("antialias", 0):
        raise UnknownError(f"Resize, {mode}")
    if any(abs(old * factor - new) > EXACT for old, factor, new in zip(x.shape, given, wanted, strict=True)):
        raise UnknownError(f"Resize, {mode}, by a factor that gives no whole numbers")
    corners = {"align_corners": True, "half_pixel": False, "pytorch_half_pixel": False}.get(align)
    if corners is None or (mode == "cubic" and (x.dim() != 4 or attributes.get("cubic_coeff_a", -0.75) != -0.75)):
        raise UnknownError(f"Resize, {mode}, {align}")
    kind: Any = "bicubic" if mode == "cubic" else {3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()]
    return F.interpolate(x, wanted[2:], mode=kind, align_corners=corners)


def _nearest(attributes: Attributes, old: int, new: int, factor: float, align: str) -> Tensor:
    """Return which places are taken along one axis."""
    place = torch.arange(new, dtype=torch.float64)
    if align in ("half_pixel", "pytorch_half_pixel"):
        place = (place + 0.5) / factor - 0.5
        if align == "pytorch_half_pixel" and new == 1:
            place = torch.zeros(1, dtype=torch.float64)
    elif align == "asymmetric":
        place = place / factor
    elif align == "align_corners":
        place = place * (old - 1) / max(new - 1, 1)
    else:
        raise UnknownError(f"Resize, {align}")
    how = attributes.get("nearest_mode", "round_prefer_floor" if attributes.opset >= 11 else "floor")
    rounded = {
        "floor": torch.floor, "ceil": torch.ceil, "round_prefer_ceil": lambda p: torch.floor(p + 0.5),
        "round_prefer_floor": lambda p: torch.ceil(p - 0.5),
    }[how](place)  # fmt: skip
    return rounded.long().clamp(0, old - 1)


RESIZING: dict[str, Operator] = {"Resize": resize, "Upsample": resize}
