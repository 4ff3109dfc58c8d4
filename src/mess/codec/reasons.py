"""Why a tensor stands in a file by itself, from what the file says: in the words `mess compress` uses."""

from __future__ import annotations

import math
from collections import defaultdict

from mess.codec.contents import Contents, Item
from mess.codec.dtypes import NAMED

IMAGE_CHANNELS = 3


class Reasons:
    """What a file says of its tensors together, gone through once: it may hold a million of them."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._has_sums = any(item.kind == "E" for item in contents.items)
        self._has_depthwise = False
        self._source: dict[tuple[tuple[int, ...], bool], Item | None] = {}  # the first, of each sort that is matched
        self._plain: dict[tuple[int, ...], list[Item]] = defaultdict(list)  # by kernel, in the order of the file
        for item in contents.items:
            is_source = contents.is_source(item.name)
            if item.kind == "P":
                self._plain[item.shape[2:]].append(item)
            if item.kind in "MC" or is_source:
                self._has_depthwise |= _is_depthwise(item)
                found = self._source.setdefault(_sort(item), None)
                self._source[_sort(item)] = item if found is None and is_source else found
        self._before = {sort: self._named_before(item) for sort, item in self._source.items() if item is not None}

    def why_by_itself(self, item: Item) -> str:
        """Return the reason, or "" for a tensor that references stand for."""
        if item.kind == "B":
            return "BatchNorm, as two vectors"
        if item.kind == "T":
            return f"the same as {item.to}"
        if item.kind != "P":
            return ""
        if self._contents.is_source(item.name):
            return "the references themselves"
        if item.name in self._contents.kept:
            return "kept, as was asked for"
        if len(item.shape) < 2 or not item.name.endswith("weight") or not NAMED[item.dtype].is_float:
            return "not a convolution or linear weight"
        if self._has_sums:
            if not math.prod(item.shape):
                return "no numbers"
            one = math.prod(item.shape) == max(item.shape)
            return "one row or column" if one else "beyond what its dtype or the integers hold, once rounded"
        kernel = item.shape[2:]
        if not kernel:
            return "linear layer"
        if math.prod(kernel) == 1:
            return "1x1 convolution"
        if _sort(item) in self._source:
            if item.name in self._before.get(_sort(item), ()):
                return "kernel layer before the references"
            return "transposed, or beyond what its dtype holds, as α·R + β"
        if not _is_depthwise(item) and self._has_depthwise:
            return "dense convolution beside depthwise ones"
        return f"too few layers of {'×'.join(map(str, kernel))} kernels for references of their own"

    def _named_before(self, source: Item) -> frozenset[str]:
        """Return the kernel layers before the references; of a bare state dict the layer that takes the images is one.

        A grey first layer, whose shape is a depthwise one's, has no source among its like.
        """
        plain = self._plain[source.shape[2:]]
        before = plain[: plain.index(source)]
        images = [x for x in plain if x is not source and len(x.shape) > 1 and x.shape[1] == IMAGE_CHANNELS]
        return frozenset(x.name for x in before or images)


def _sort(item: Item) -> tuple[tuple[int, ...], bool]:
    """Return what layers share that may point to the same references: kernel, and whether it is depthwise."""
    return item.shape[2:], _is_depthwise(item)


def _is_depthwise(item: Item) -> bool:
    return len(item.shape) > 2 and item.shape[1] == 1 < item.shape[0]
