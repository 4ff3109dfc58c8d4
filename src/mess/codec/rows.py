"""What a file holds: as a record, in rows that a person reads, and in names for people."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mess.codec.contents import KEPT, LOOK
from mess.codec.native import reader_name
from mess.codec.streams import ROUNDED
from mess.display import notebook

FEW = 24  # rows that are taken in at a glance
NOTEBOOK_ROWS = 12  # of weights, in a notebook
NAME_OF_SECTION = {
    "header": "header", "manifest": "manifest", "references": "references", "indices": "indices k",
    "scales": "scales α", "offsets": "offsets β", "expansions": "sums of references", "tensors": "other tensors",
    "batch norms": "BatchNorm", "graph": "graph",
}  # fmt: skip
FRAME = ("header", "manifest", "graph")  # what belongs to no layer


def bits_per_weight(count: int, numbers: int) -> float:
    """Return bits a number that `count` bytes are, 0 where there is no number."""
    return 8 * count / numbers if numbers else 0.0


@dataclass(frozen=True)
class Share:
    """A part of a file.

    Attributes:
        numbers: how many numbers it has (of a BatchNorm: those it computes with; of a tied tensor none).
        parts: its bytes by section.
    """

    numbers: int
    parts: dict[str, int]

    @property
    def bytes(self) -> int:
        """Bytes of the file that are its own."""
        return sum(self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits a number, 0 where there is none."""
        return bits_per_weight(self.bytes, self.numbers)


@dataclass(frozen=True)
class TensorInfo(Share):
    """One tensor, or one BatchNorm layer, in a file.

    Attributes:
        name: in the state dict; of a BatchNorm layer the module's.
        stored: how, in words.
        reason: why no reference stands for it; "" where one does.
        shape: of the tensor; of a BatchNorm layer (channels,).
        dtype: as ``"float32"``.
        float_bytes: bytes of the tensors it gives, in their own dtypes; of a tied tensor none.
        forms: how the numbers of each section are kept: "rounded to 8 bits" (multiples of one step), "on a trellis",
            or a dtype.
    """

    name: str
    stored: str
    reason: str
    shape: tuple[int, ...]
    dtype: str
    float_bytes: int
    forms: dict[str, str]


@dataclass(frozen=True)
class FileInfo:
    """What a file holds. `sections` add up to `bytes`, and so do `header`, the manifest and all `tensors`.

    Attributes:
        bytes: size of the file.
        format: major and minor version.
        network: which network of the zoo it is, mean and std of its input; None: the file does not say.
        scheme: version, options, and what was seen before it was written.
        sections: bytes by section.
        tensors: what it holds, in the order of the file.
        sha256: of the file, which is what its header says.
        crc32: of each section, as its entry says.
        header: bytes of header and section table.
        own_references: bytes of references that are no tensor's.
    """

    bytes: int
    format: tuple[int, int]
    sha256: str
    network: dict[str, Any] | None
    scheme: dict[str, Any]
    header: int
    sections: dict[str, int]
    crc32: dict[str, int]
    tensors: list[TensorInfo] = field(repr=False)
    own_references: int = 0

    @property
    def numbers(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.numbers for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits a number, everything counted."""
        return bits_per_weight(self.bytes, self.numbers)

    @property
    def float_bytes(self) -> int:
        """Bytes of all tensors in their own dtypes, tied ones once, without any container."""
        return sum(tensor.float_bytes for tensor in self.tensors)

    @property
    def ratio(self) -> float:
        """How many times smaller than that the file is."""
        return self.float_bytes / self.bytes

    def __str__(self) -> str:
        widest = max(map(len, self.sections))
        shares = [(name, count, count / self.bytes) for name, count in self.sections.items()]
        lines = [f"  {name:{widest}} {count:>12,} B {share:>6.1%}" for name, count, share in shares]
        return "\n".join([*self._told(), *lines])

    def _repr_html_(self) -> str:
        counts, rows = self.sections.values(), rows_of(self, NOTEBOOK_ROWS)
        sections = [(NAME_OF_SECTION[name], f"{n:,}", f"{n / self.bytes:.1%}") for name, n in self.sections.items()]
        layers = [(r.name, f"{r.bytes:,}", f"{r.bits_per_weight:.2f}" if r.numbers else "") for r in rows]
        bars = [n / max(counts) for n in counts], [r.bytes / max(row.bytes for row in rows) for r in rows]
        by_section = notebook.table(("section", "bytes", "share"), sections, bars[0])
        by_layer = notebook.table(("layer", "bytes", "bits a weight"), layers, bars[1])
        title, *lines = self._told()
        return notebook.block(title, lines, [by_section, by_layer])

    def _told(self) -> list[str]:
        size = f"{self.bytes:,} B, {self.ratio:.1f} times smaller than {self.float_bytes:,} B of weights"
        seen = seen_of(self.scheme)
        return [
            f"{network_name(self)}, scheme {scheme_name(self.scheme)}",
            f"{size}, {self.bits_per_weight:.2f} bits a weight; format {self.format[0]}.{self.format[1]}",
            *([seen] if seen else []),
        ]


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

    @property
    def extent(self) -> str:
        """Its shape, or how many layers it is, for people; "" where neither says anything."""
        return "×".join(map(str, self.shape)) or (f"{self.layers} layers" if self.layers > 1 else "")


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


def precision_of(info: FileInfo) -> str:
    """Return how numbers are kept, by what they are: "scales α rounded to 8 bits; other tensors float16"."""
    found: dict[str, dict[str, None]] = {}
    for tensor in info.tensors:
        for section, form in tensor.forms.items():
            if section != "indices":
                found.setdefault(section, {})[form] = None
    for forms in found.values():
        if len(forms) > 1:
            forms.pop(ROUNDED, None)  # vectors of zeros, of which nothing says to how many bits
    kept = ((name, _told(found[section])) for section, name in NAME_OF_SECTION.items() if section in found)
    return "; ".join(f"{name} {forms}" for name, forms in kept)


def _told(forms: Iterable[str]) -> str:
    """Return forms in words; the bits of many vectors as a range: "float16, rounded to 6 to 10 bits"."""
    bits = {int(found[1]): form for form in forms if (found := re.fullmatch(rf"{ROUNDED} to (\d+) bits", form))}
    others = sorted(form for form in forms if form not in bits.values())
    if len(bits) > 1:
        return ", ".join([*others, f"{ROUNDED} to {min(bits)} to {max(bits)} bits"])
    return ", ".join([*others, *bits.values()])


def by_reason(tensors: Iterable[TensorInfo]) -> dict[str, list[TensorInfo]]:
    """Return the tensors that no reference stands for, by why not; those that take most bytes first."""
    found = _grouped((t for t in tensors if t.reason and t.stored != "tied"), lambda tensor: tensor.reason)
    return dict(sorted(found.items(), key=lambda pair: -sum(tensor.bytes for tensor in pair[1])))


def as_json(path: str | os.PathLike[str], info: FileInfo) -> dict[str, Any]:
    """Return everything as plain JSON values; `sections` add up to `bytes`."""
    tensors = [asdict(t) | {"bytes": t.bytes, "bits_per_weight": t.bits_per_weight} for t in info.tensors]
    whole = ("float_bytes", "ratio", "numbers", "bits_per_weight")
    return {
        "file": os.fspath(path),
        **asdict(info),
        **{name: getattr(info, name) for name in whole},
        "crc32": {name: f"{crc:08x}" for name, crc in info.crc32.items()},
        "reader": reader_name(),
        "tensors": tensors,
    }


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


def _grouped(tensors: Iterable[TensorInfo], key: Callable[[TensorInfo], str]) -> dict[str, list[TensorInfo]]:
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(key(tensor), []).append(tensor)
    return groups


def _joined(name: str, tensors: list[TensorInfo], what: str) -> Row:
    parts: Counter[str] = Counter()
    for tensor in tensors:
        parts.update(tensor.parts)
    shape = tensors[0].shape if len(tensors) == 1 else ()
    return Row(sum(t.numbers for t in tensors), dict(parts), name, what, len(tensors), shape)


def _how(tensors: list[TensorInfo]) -> str:
    """Return how layers are stored, the most weights first."""
    numbers: Counter[str] = Counter()
    for tensor in tensors:
        numbers[tensor.stored] += tensor.numbers
    return "; ".join(stored for stored, _ in numbers.most_common())
