"""Shapes, cutting, joining and picking."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mess.graphs.operators.table import Attributes, Operator, UnknownError


def constant(attributes: Attributes) -> Tensor:
    """Return what the node says."""
    for name, kind in (("value_float", torch.float32), ("value_floats", torch.float32), ("value_int", torch.int64),
                       ("value_ints", torch.int64)):  # fmt: skip
        if (value := attributes.get(name)) is not None:
            return torch.tensor(value, dtype=kind)
    value = attributes.get("value")
    if not isinstance(value, Tensor):
        raise UnknownError("Constant of text")
    return value


def constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    """Return a tensor of one number."""
    value = attributes.get("value")
    one = torch.zeros(1) if value is None else value.reshape(-1)
    return one.expand(1).reshape([1] * shape.numel()).expand(shape.tolist()).clone()


def cumulative_sum(attributes: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    """Return sums of all numbers so far."""
    if attributes.get("exclusive", 0) or attributes.get("reverse", 0):
        raise UnknownError("CumSum, exclusive or reverse")
    return x.cumsum(int(axis))


def depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    """Turn channels into places."""
    size = attributes.get("blocksize")
    if attributes.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, c, h, w = x.shape
    parts = x.reshape(n, size, size, c // size**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, c // size**2, h * size, w * size)


def space_to_depth(attributes: Attributes, x: Tensor) -> Tensor:
    """Turn places into channels."""
    if attributes.get("mode", "DCR") != "DCR":
        raise UnknownError("SpaceToDepth, CRD")
    size = attributes.get("blocksize")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // size, size, w // size, size)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(n, c * size**2, h // size, w // size)


def flatten(attributes: Attributes, x: Tensor) -> Tensor:
    """Return a matrix."""
    axis = attributes.get("axis", 1)
    rows = math.prod(x.shape[: axis + x.dim() if axis < 0 else axis])
    return x.reshape(rows, -1 if x.numel() else 0)


def gather(attributes: Attributes, x: Tensor, index: Tensor) -> Tensor:
    """Pick along an axis."""
    axis = attributes.get("axis", 0) % x.dim()
    index = _from_zero(index, x.shape[axis])
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def gather_nd(attributes: Attributes, x: Tensor, index: Tensor) -> Tensor:
    """Pick by whole places."""
    if attributes.get("batch_dims", 0):
        raise UnknownError("GatherND with batch_dims")
    return x[tuple(index.long().unbind(-1))]


def pad(
    attributes: Attributes, x: Tensor, sides: Tensor | None = None, value: Tensor | None = None, axes: Any = None
) -> Tensor:
    """Put numbers around."""
    given = attributes.numbers("pads", sides, [])
    along = [a % x.dim() for a in axes.tolist()] if axes is not None else list(range(x.dim()))
    each = {axis: (given[k], given[k + len(along)]) for k, axis in enumerate(along)}
    flat = [n for axis in reversed(range(x.dim())) for n in each.get(axis, (0, 0))]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    mode = attributes.get("mode", "constant")
    if mode == "constant":
        return F.pad(
            x, flat, value=float(value) if value is not None and value.numel() else attributes.get("value", 0.0)
        )
    if mode not in ("reflect", "edge"):
        raise UnknownError(f"Pad, {mode}")
    added = max(0, 3 - x.dim())  # torch wants a batch and channels before what it reflects
    more = x[(None,) * added]
    return F.pad(more, flat, mode="replicate" if mode == "edge" else mode)[(0,) * added]


def reshape(attributes: Attributes, x: Tensor, shape: Tensor | None = None) -> Tensor:
    """Return the same numbers in another shape; 0 keeps a dimension."""
    wanted = attributes.numbers("shape", shape)
    keep = not attributes.get("allowzero", 0)
    return x.reshape([x.shape[k] if size == 0 and keep else size for k, size in enumerate(wanted)])


def slice_(
    attributes: Attributes, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    """Cut out."""
    first, last = attributes.numbers("starts", starts), attributes.numbers("ends", ends)
    along = attributes.numbers("axes", axes) or list(range(len(first)))
    by = attributes.numbers("steps", steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        size = x.shape[axis]
        if step < 0:
            chosen = list(range(size))[slice(start, None if end < -size else end, step)]
            places = torch.tensor(chosen, dtype=torch.int64).to(x.device)
            x = x.index_select(axis, places)
        else:
            cut: list[Any] = [slice(None)] * x.dim()
            cut[axis] = slice(start, end, step)
            x = x[tuple(cut)]
    return x


def split(attributes: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Cut into pieces, of equal sizes unless said otherwise."""
    axis = attributes.get("axis", 0)
    given = attributes.numbers("split", sizes)
    return x.split(given if given else -(-x.shape[axis] // attributes.outputs), axis)


def squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Leave out dimensions of size 1."""
    given = attributes.numbers("axes", axes)
    if given and any(x.shape[axis] != 1 for axis in given):
        raise ValueError(f"a dimension of size 1 is to be left out of {tuple(x.shape)}, and is none")
    return x.squeeze() if not given else x.squeeze(tuple(given))


def unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Put in dimensions of size 1."""
    given = attributes.numbers("axes", axes)
    whole = x.dim() + len(given)
    for axis in sorted(a % whole for a in given):
        x = x.unsqueeze(axis)
    return x


def top_k(attributes: Attributes, x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest or smallest, and where they are."""
    (k,) = attributes.numbers("k", count) if count is not None else (attributes.get("k"),)
    return tuple(x.topk(k, attributes.get("axis", -1), bool(attributes.get("largest", 1))))  # type: ignore[return-value]


def _from_zero(index: Tensor, size: int) -> Tensor:
    """Return places counted from the start, where some are counted from the end."""
    return torch.where(index < 0, index + size, index).long()


ARRAYS: dict[str, Operator] = {
    "Concat": lambda a, *inputs: torch.cat(inputs, a.get("axis", 1)), "Constant": constant,
    "ConstantOfShape": constant_of_shape, "CumSum": cumulative_sum, "DepthToSpace": depth_to_space,
    "Expand": lambda _, x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist()))), "Flatten": flatten,
    "Gather": gather,
    "GatherElements": lambda a, x, index: x.gather(a.get("axis", 0), _from_zero(index, x.shape[a.get("axis", 0)])),
    "GatherND": gather_nd, "Pad": pad,
    "Range": lambda _, start, end, step: torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype),
    "Reshape": reshape, "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0) : a.get("end", x.dim())]).long(),
    "Size": lambda _, x: torch.tensor(x.numel()), "Slice": slice_, "SpaceToDepth": space_to_depth, "Split": split,
    "Squeeze": squeeze, "Tile": lambda _, x, repeats: x.repeat(repeats.tolist()), "TopK": top_k,
    "Transpose": lambda a, x: x.permute(a.get("perm") or list(range(x.dim()))[::-1]),
    "Trilu": lambda a, x, k=None: (torch.triu if a.get("upper", 1) else torch.tril)(x, int(k or 0)),
    "Unsqueeze": unsqueeze,
}  # fmt: skip
