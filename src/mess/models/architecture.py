"""What names a network: family, images, classes, layers, width and groups, with a family's own defaults filled in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mess.class_folders import class_names
from mess.errors import OptionError, one_of
from mess.names import FAMILIES

CIFAR_FORM = {"cifar10": 10, "cifar100": 100, "digits": 10}  # 32x32 images: small stem, no early pooling
IMAGENET_CLASSES = 1000
SPECIFIED_LAYERS = 16  # the specification's default of --layers
MAX_WIDTH_MULT = 64
SPECIFIED_GROUPS = 2  # and of --groups

SHUFFLENET_GROUPS = (1, 2, 3, 4, 8)
SHUFFLENETV2_WIDTHS = (0.5, 1.0, 1.5, 2.0)
RESNET_CIFAR_LAYERS = (20, 32, 44, 56, 110)  # of the paper and of the specification's table; any 6n+2 can be built
RESNET_IMAGENET_LAYERS = (18, 34, 50, 101, 152)
RESNEXT_IMAGENET_LAYERS = (50, 101)
WIDERESNET_IMAGENET_LAYERS = (50, 101)


@dataclass(frozen=True)
class Architecture:
    """A network, fully named: `build` needs nothing else.

    Attributes:
        arch: family, one of `FAMILIES`.
        dataset: images it is shaped for; all but CIFAR and `digits` take the ImageNet form.
        layers: depth where the family has one, else None.
        width_mult: factor on all widths; the widening factor k of WideResNet.
        groups: groups of ShuffleNet, cardinality of ResNeXt, else None.
    """

    arch: str
    dataset: str
    num_classes: int
    layers: int | None
    width_mult: float
    groups: int | None

    @property
    def cifar_form(self) -> bool:
        """Whether the network is shaped for 32x32 images."""
        return self.dataset in CIFAR_FORM

    @property
    def slug(self) -> str:
        """A short name for people: ``resnet20``, ``wideresnet28-10``, ``shufflenet-g3``, ``mobilenetv2-0.5``."""
        name = f"{self.arch}{self.layers or ''}"
        if self.groups not in (None, 32 if self.arch == "resnext" else SPECIFIED_GROUPS):
            name += f"-g{self.groups}"
        if self.arch == "wideresnet" or self.width_mult != 1.0:
            name += f"-{self.width_mult:g}"
        return name

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """Rebuild and check an architecture that comes out of a file, which may say anything.

        Raises:
            OptionError: a field that is missing, of the wrong type, or a network that does not exist.
        """
        kinds: dict[str, tuple[type, ...]] = {
            "arch": (str,), "dataset": (str,), "num_classes": (int,), "layers": (int, type(None)),
            "width_mult": (float, int), "groups": (int, type(None)),
        }  # fmt: skip
        for field in fields(cls):
            value = values.get(field.name, ...)
            if not isinstance(value, kinds[field.name]) or isinstance(value, bool):
                expected = " or ".join(kind.__name__ for kind in kinds[field.name])
                raise OptionError(
                    f"architecture: {field.name}", expected, "nothing" if value is ... else repr(value)[:60]
                )
        if not 0 < values["width_mult"] <= MAX_WIDTH_MULT:  # before float(): JSON may hold 10^400
            raise OptionError("architecture: width_mult", f"above 0, at most {MAX_WIDTH_MULT}", "another number")
        return resolve(**{name: values[name] for name in kinds} | {"width_mult": float(values["width_mult"])})


def networks(dataset: str) -> list[Architecture]:
    """Return every family in the sizes that people compare: those of the specification's tables and of the papers."""
    cifar = dataset in CIFAR_FORM
    layers: dict[str, tuple[int, ...]] = {
        "resnet": RESNET_CIFAR_LAYERS if cifar else RESNET_IMAGENET_LAYERS,
        "resnext": (29,) if cifar else RESNEXT_IMAGENET_LAYERS,
        "wideresnet": (28,) if cifar else WIDERESNET_IMAGENET_LAYERS,
    }
    widths = {"wideresnet": 10.0 if cifar else 2.0}
    return [
        resolve(arch, dataset, layers=depth, width_mult=widths.get(arch, 1.0))
        for arch in FAMILIES
        for depth in layers.get(arch, (None,))
    ]


def resolve(
    arch: str,
    dataset: str,
    *,
    num_classes: int | None = None,
    layers: int | None = None,
    width_mult: float = 1.0,
    groups: int | None = None,
) -> Architecture:
    """Fill in a family's defaults and refuse what cannot be built.

    Raises:
        OptionError: names the flag at fault and what is possible.
    """
    if arch not in FAMILIES:
        raise OptionError("--arch", one_of(FAMILIES, _family(arch) or arch), arch, _meant(arch))
    if num_classes is None:
        num_classes = CIFAR_FORM.get(dataset, IMAGENET_CLASSES if dataset == "imagenet" else None)
    if num_classes is None:
        num_classes = _classes_of_folder(dataset)
    if not 1 <= num_classes <= 10**6:
        raise OptionError("number of classes", "1 to 1,000,000", num_classes)
    if not (math.isfinite(width_mult) and 0 < width_mult <= MAX_WIDTH_MULT):
        raise OptionError("--width-mult", "a factor above 0, at most 64", width_mult)
    cifar = dataset in CIFAR_FORM
    layers, groups = _layers(arch, layers, cifar), _groups(arch, groups, cifar)
    return Architecture(arch, dataset, num_classes, layers, _width(arch, width_mult), groups)


def _family(name: str) -> str | None:
    """Return the family that a name of other libraries begins with: ``wide_resnet50_2``, ``ResNet-18``."""
    plain = re.sub("[^a-z0-9]", "", name.lower())
    return max((family for family in FAMILIES if plain.startswith(family)), key=len, default=None)


def _meant(name: str) -> str:
    """Say how a network is named here whose depth stands in its name elsewhere."""
    family, depth = _family(name), re.search(r"(?<![vx_0-9])[0-9]{2,3}", name.lower())
    if family not in ("resnet", "resnext", "wideresnet") or depth is None:
        return ""
    return f"Its depth is told apart: {family} with --layers {depth[0]}"


def _layers(arch: str, layers: int | None, cifar: bool) -> int | None:
    if arch in ("mobilenet", "mobilenetv2", "shufflenet", "shufflenetv2"):
        if layers not in (None, SPECIFIED_LAYERS):
            raise OptionError("--layers", f"no number: {arch} has one depth", layers)
        return None
    if arch == "resnet":
        if cifar:
            return _depth(layers, 20, 6, 2, "20, 32, 44, 56, 110 or any 6n+2")
        return _listed(layers, 18, RESNET_IMAGENET_LAYERS)
    if arch == "resnext":
        return _depth(layers, 29, 9, 2, "29 or any 9n+2") if cifar else _listed(layers, 50, RESNEXT_IMAGENET_LAYERS)
    if cifar:
        return _depth(layers, 16, 6, 4, "16, 22, 28, 40 or any 6n+4")
    return _listed(layers, 50, WIDERESNET_IMAGENET_LAYERS)


def _depth(layers: int | None, default: int, period: int, offset: int, possible: str) -> int:
    if layers is None:
        return default
    if layers < period + offset or layers > 2000 or (layers - offset) % period:
        raise OptionError("--layers", f"{possible} (on 32x32 images)", layers)
    return layers


def _listed(layers: int | None, default: int, possible: tuple[int, ...]) -> int:
    if layers is None:
        return default
    if layers not in possible:
        raise OptionError("--layers", f"one of {', '.join(map(str, possible))} (on ImageNet)", layers)
    return layers


def _width(arch: str, width_mult: float) -> float:
    if arch == "shufflenetv2" and width_mult not in SHUFFLENETV2_WIDTHS:
        raise OptionError(
            "--width-mult", f"one of {', '.join(map(str, SHUFFLENETV2_WIDTHS))} for shufflenetv2", width_mult
        )
    return float(width_mult)


def _groups(arch: str, groups: int | None, cifar: bool) -> int | None:
    if arch == "shufflenet":
        groups = SPECIFIED_GROUPS if groups is None else groups
        if groups not in SHUFFLENET_GROUPS:
            raise OptionError("--groups", f"one of {', '.join(map(str, SHUFFLENET_GROUPS))} for shufflenet", groups)
        return groups
    if arch == "resnext":
        groups = 32 if groups is None else groups
        possible = (8, 32) if cifar else (32,)
        if groups not in possible:
            raise OptionError("--groups", f"{' or '.join(map(str, possible))}, the cardinality of resnext", groups)
        return groups
    if groups not in (None, SPECIFIED_GROUPS):
        raise OptionError("--groups", f"no number: {arch} has no groups to choose", groups)
    return None


def _classes_of_folder(dataset: str) -> int:
    """Count the class folders of a user's own dataset, whose number no table says."""
    root = Path(dataset)
    count = len(class_names(root)) if root.is_dir() else 0
    if not count:
        raise OptionError(
            "dataset", one_of([*CIFAR_FORM, "imagenet"], dataset) + " or a folder of class folders", dataset
        )
    return count
