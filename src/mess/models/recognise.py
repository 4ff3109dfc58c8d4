"""Which network of the zoo has exactly these names and shapes: for bare state dicts, which do not say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from mess.errors import OptionError
from mess.models.architecture import CIFAR_FORM, SHUFFLENET_GROUPS, Architecture, resolve
from mess.models.zoo import layout

Shapes = Mapping[str, tuple[int, ...]]
HEADS = ("linear.weight", "fc.weight", "classifier.weight", "classifier.1.weight")
STEMS = ("conv1.weight", "conv1.0.weight", "features.0.0.weight")


def recognise(shapes: Shapes) -> Architecture | None:
    """Return the architecture whose state dict has these names and shapes, or None.

    Counters of batches may be missing, as old checkpoints have none. Ten classes read as CIFAR-10, a hundred as
    CIFAR-100: what images a network was trained on is nothing its shapes tell.
    """
    head = next((shapes[name] for name in HEADS if name in shapes), ())
    if len(head) != 2 or not any(name in shapes for name in STEMS):
        return None
    wanted = _significant(shapes.items())
    for architecture in _candidates(shapes, head[0]):
        if _significant((name, shape) for name, shape, _ in layout(architecture)) == wanted:
            return architecture
    return None


def _significant(items: object) -> dict[str, tuple[int, ...]]:
    return {n: tuple(s) for n, s in items if not n.endswith("num_batches_tracked")}  # type: ignore[attr-defined]


def _candidates(shapes: Shapes, classes: int) -> Iterator[Architecture]:
    """Yield what the names allow, the likeliest first; at most a handful, since each is laid out and compared."""
    dataset = {10: "cifar10", 100: "cifar100"}.get(classes, "imagenet")
    blocks = len({m[0] for name in shapes if (m := re.match(r"layer\d+\.\d+", name))})
    tries: list[tuple[str, dict]] = []
    if "features.18.0.weight" in shapes:
        tries = [("mobilenetv2", {"width_mult": w}) for w in (1.0, _ratio(shapes, "features.0.0.weight", 32))]
    elif "features.13.0.weight" in shapes:
        tries = [("mobilenet", {"width_mult": _ratio(shapes, "features.0.0.weight", 32)})]
    elif "stage2.0.branch1.0.weight" in shapes:
        tries = [("shufflenetv2", {"width_mult": w}) for w in (1.0, 0.5, 1.5, 2.0)]
    elif "stage2.0.conv1.weight" in shapes:
        tries = [
            ("shufflenet", {"groups": g, "width_mult": _ratio(shapes, "conv1.weight", 24)}) for g in SHUFFLENET_GROUPS
        ]
    elif "linear.weight" in shapes:
        tries = [("resnet", {"layers": 2 * blocks + 2, "width_mult": _ratio(shapes, "conv1.weight", 16)})]
    elif "bn.weight" in shapes and dataset in CIFAR_FORM:
        k = shapes["bn.weight"][0] / 64
        tries = [("wideresnet", {"layers": 2 * blocks + 4, "width_mult": k})]
    elif dataset in CIFAR_FORM and "layer1.0.conv3.weight" in shapes and "layer4.0.conv1.weight" not in shapes:
        tries = [("resnext", {"layers": 3 * blocks + 2, "groups": g}) for g in (32, 8)]
    elif "layer4.0.conv1.weight" in shapes:
        bottleneck = "layer1.0.conv3.weight" in shapes
        layers = {8: 18, 16: 50 if bottleneck else 34, 33: 101, 50: 152}.get(blocks, 0)
        tries = [("resnet", {"layers": layers, "width_mult": _ratio(shapes, "conv1.weight", 64)})]
        tries += [("resnext", {"layers": layers}), ("wideresnet", {"layers": layers, "width_mult": 2.0})]
    for arch, options in tries:
        with suppress(OptionError):
            yield resolve(arch, dataset, num_classes=classes, **options)


def _ratio(shapes: Shapes, name: str, base: int) -> float:
    shape = shapes.get(name, ())
    return shape[0] / base if shape and shape[0] else 1.0
