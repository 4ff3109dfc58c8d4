"""What a file holds in rows that a person reads, and in names for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mess.codec.contents import KEPT, LOOK
from mess.codec.info import FileInfo, Share, TensorInfo
from mess.codec.native import reader_name
from mess.codec.streams import ROUNDED

FEW = 24  # rows that are taken in at a glance
NOTEBOOK_ROWS = 12  # of weights, in a notebook
NAME_OF_SECTION = {
    "header": "header", "manifest": "manifest", "references": "references", "indices": "indices k",
    "scales": "scales α", "offsets": "offsets β", "expansions": "sums of references", "tensors": "other tensors",
    "batch norms": "BatchNorm", "graph": "graph",
}  # fmt: skip
FRAME = ("header", "manifest", "graph")  # what belongs to no layer


@dataclass(frozen=True)
class Row(Share):
    """One layer, or several together.

    Attributes:
        name: of the tensor, or what the layers' names have in common.
        what: how it is stored.
        layers: how many layers it stands for.
        shape: of the tensor; of several layers ().
    """

    name: str
    what: str
    layers: int
    shape: tuple[int, ...]


def rows_of(info: FileInfo, most: int | None = FEW) -> list[Row]:
    """Return a file in rows that add up to its bytes: weights, then what else there is.

    Args:
        info: what is told.
        most: with more layers of weights than this, layers whose names begin alike become one row; None: never.
    """
    weights = [tensor for tensor in info.tensors if is_weight(tensor)]
    vectors = [tensor for tensor in info.tensors if not is_weight(tensor)]
    norms = [tensor for tensor in vectors if tensor.stored == "batch norm"]
    rest = [tensor for tensor in vectors if tensor.stored != "batch norm"]
    rows = _folded(weights, most)
    for name, group in (("BatchNorm", norms), ("biases and other vectors", rest)):
        if group:
            rows.append(_joined(name, group, "two vectors" if group is norms else "as it is"))
    if info.own_references:
        rows.append(Row(0, {"references": info.own_references}, "references of their own", "references", 0, ()))
    frame = {name: info.sections[name] for name in FRAME if name in info.sections}
    *all_but, last = frame
    return [*rows, Row(0, frame, f"{', '.join(all_but)} and {last}", "", 0, ())]


def is_weight(tensor: TensorInfo) -> bool:
    """Return whether a tensor is a layer's weights, as against a vector, a BatchNorm or another name for a tensor."""
    return len(tensor.shape) > 1 and tensor.stored not in ("batch norm", "tied")


def network_name(info: FileInfo) -> str:
    """Return a name for people: "resnet20 for cifar10", or that the file names none."""
    network = info.network
    if network is None:
        return "a network that came as ONNX" if "graph" in info.sections else "weights of a network of its own"
    name = f"{network.get('arch')}{network.get('layers') or ''}"
    width, groups = network.get("width_mult"), network.get("groups")
    if width not in (None, 1, 1.0):
        name += f" × {width:g}"
    if groups is not None:
        name += f", {groups} groups"
    return f"{name} for {network.get('dataset')}"


def scheme_name(scheme: Mapping[str, Any]) -> str:
    """Return version and options: "v3, bind 2"."""
    said = {key: value for key, value in scheme.items() if key not in ("version", KEPT, LOOK)}
    others = (f"{key.replace('_', ' ')} {value}" for key, value in said.items())
    return ", ".join([str(scheme.get("version", "none")), *others])


def seen_of(scheme: Mapping[str, Any]) -> str:
    """Return what was seen of a network before its file was written; "" where nothing was."""
    look = scheme.get(LOOK)
    told = ", ".join(f"{name} {value}" for name, value in look.items()) if isinstance(look, Mapping) else ""
    return f"as seen before it was written: {told}" if told else ""


def precision_of(info: FileInfo) -> dict[str, str]:
    """Return how numbers are kept, by what they are: {"scales α": "rounded to 8 bits", "other tensors": "float16"}."""
    found: dict[str, dict[str, None]] = {}
    for tensor in info.tensors:
        for section, form in tensor.forms.items():
            if section != "indices":
                found.setdefault(section, {})[form] = None
    for forms in found.values():
        if len(forms) > 1:
            forms.pop(ROUNDED, None)  # vectors of zeros, of which nothing says to how many bits
    return {name: ", ".join(sorted(found[section])) for section, name in NAME_OF_SECTION.items() if section in found}


def by_reason(tensors: Iterable[TensorInfo]) -> dict[str, list[TensorInfo]]:
    """Return the tensors that no reference stands for, by why not."""
    found: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        if tensor.reason and tensor.stored != "tied":
            found.setdefault(tensor.reason, []).append(tensor)
    return found


def as_json(path: str | os.PathLike[str], info: FileInfo) -> dict[str, Any]:
    """Return everything as plain JSON values; `sections` add up to `bytes`."""
    return {
        "file": os.fspath(path),
        "bytes": info.bytes,
        "float_bytes": info.float_bytes,
        "ratio": info.ratio,
        "numbers": info.numbers,
        "bits_per_weight": info.bits_per_weight,
        "format": list(info.format),
        "network": info.network,
        "scheme": info.scheme,
        "sha256": info.sha256,
        "crc32": {name: f"{crc:08x}" for name, crc in info.crc32.items()},
        "header": info.header,
        "reader": reader_name(),
        "own_references": info.own_references,
        "sections": info.sections,
        "tensors": [
            {
                "name": t.name, "stored": t.stored, "reason": t.reason, "shape": list(t.shape), "dtype": t.dtype,
                "numbers": t.numbers, "float_bytes": t.float_bytes, "bytes": t.bytes,
                "bits_per_weight": t.bits_per_weight, "parts": t.parts, "forms": t.forms,
            }
            for t in info.tensors
        ],
    }  # fmt: skip


def _folded(weights: list[TensorInfo], most: int | None) -> list[Row]:
    """Return a row a layer, or, where these are too many, a row for those whose names share the longest beginning."""
    deepest = max((tensor.name.count(".") for tensor in weights), default=0)
    for depth in range(deepest + 1, 0, -1):
        groups = _grouped(weights, lambda tensor, d=depth: ".".join(tensor.name.split(".")[:d]))  # type: ignore[misc]
        if most is None or len(groups) <= most or depth == 1:
            return [
                _joined(name if len(group) > 1 else group[0].name, group, _how(group)) for name, group in groups.items()
            ]
    return []


def _grouped(tensors: list[TensorInfo], key: Callable[[TensorInfo], str]) -> dict[str, list[TensorInfo]]:
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return groups


def _joined(name: str, tensors: list[TensorInfo], what: str) -> Row:
    parts: dict[str, int] = {}
    for tensor in tensors:
        for section, count in tensor.parts.items():
            parts[section] = parts.get(section, 0) + count
    shape = tensors[0].shape if len(tensors) == 1 else ()
    return Row(sum(t.numbers for t in tensors), parts, name, what, len(tensors), shape)


def _how(tensors: list[TensorInfo]) -> str:
    """Return how layers are stored, the most weights first."""
    numbers: dict[str, int] = {}
    for tensor in tensors:
        numbers[tensor.stored] = numbers.get(tensor.stored, 0) + tensor.numbers
    return "; ".join(sorted(numbers, key=lambda stored: -numbers[stored]))
