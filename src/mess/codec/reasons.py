"""Why a tensor stands in a file by itself, from what the file says: in the words `mess compress` uses."""

from __future__ import annotations

import math

from mess.codec.contents import Contents, Item

IMAGE_CHANNELS = 3


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
    if item.name in contents.kept:
        return "kept, as was asked for"
    if len(item.shape) < 2 or not item.name.endswith("weight") or not item.dtype.startswith(("float", "bfloat")):
        return "not a convolution or linear weight"
    if any(x.kind == "E" for x in contents.items):
        if not math.prod(item.shape):
            return "no numbers"
        one = math.prod(item.shape) == max(item.shape)
        return "one row or column" if one else "beyond what its dtype or the integers hold, once rounded"
    kernel = item.shape[2:]
    if not kernel:
        return "linear layer"
    if math.prod(kernel) == 1:
        return "1x1 convolution"
    members = [x for x in contents.items if x.kind in "MC" or contents.is_source(x.name)]
    alike = [x for x in members if x.shape[2:] == kernel and _is_depthwise(x) == _is_depthwise(item)]
    if alike:
        before = item.name in _before(alike, contents)
        return (
            "kernel layer before the references" if before else "transposed, or beyond what its dtype holds, as α·R + β"
        )
    if not _is_depthwise(item) and any(_is_depthwise(x) for x in members):
        return "dense convolution beside depthwise ones"
    return f"too few layers of {'×'.join(map(str, kernel))} kernels for references of their own"


def _before(alike: list[Item], contents: Contents) -> list[str]:
    """Return the kernel layers before the references; of a bare state dict the layer that takes the images is one."""
    source = next((x for x in alike if contents.is_source(x.name)), None)
    if source is None:  # a grey first layer, whose shape is a depthwise one's
        return []
    plain = [x for x in contents.items if x.kind == "P" and x.shape[2:] == source.shape[2:]]
    before = plain[: plain.index(source)]
    images = [x for x in plain if x is not source and x.shape[1] == IMAGE_CHANNELS]
    return [x.name for x in before or images]


def _is_depthwise(item: Item) -> bool:
    return len(item.shape) > 2 and item.shape[1] == 1 < item.shape[0]
