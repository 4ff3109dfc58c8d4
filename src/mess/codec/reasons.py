"""Why a tensor stands in a file by itself, from what the file says: in the words `mess compress` uses."""

from __future__ import annotations

import math

from mess.codec.contents import Contents, Item


def why_by_itself(item: Item, contents: Contents) -> str:
    """Return the reason, or "" for a tensor that references stand for."""
    if item.kind == "B":
        return "BatchNorm, as two vectors"
    if item.kind == "T":
        return f"the same as {item.to}"
    if item.kind != "P":
        return ""
    if contents.is_source(item.name):
        return "the references themselves"
    if len(item.shape) < 2 or not item.name.endswith("weight") or not item.dtype.startswith(("float", "bfloat")):
        return "not a convolution or linear weight"
    kernel = item.shape[2:]
    if not kernel:
        return "linear layer"
    if math.prod(kernel) == 1:
        return "1x1 convolution"
    members = [x for x in contents.items if x.kind in "MC" or contents.is_source(x.name)]
    if kernel in [x.shape[2:] for x in members if _is_depthwise(x) == _is_depthwise(item)]:
        return "kernel layer before the references"
    if not _is_depthwise(item) and any(_is_depthwise(x) for x in members):
        return "dense convolution beside depthwise ones"
    return f"too few layers of {'×'.join(map(str, kernel))} kernels for references of their own"


def _is_depthwise(item: Item) -> bool:
    return len(item.shape) > 2 and item.shape[1] == 1 < item.shape[0]
