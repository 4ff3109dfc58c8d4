"""Networks of other libraries by name: ``timm:resnet18``, ``torchvision:resnet18``, or a function of one's own.

A file may say the name of a network in a catalogue, never a function: what a file says is not executed.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from torch import Tensor, nn

from mess.errors import OptionError, one_of

log = logging.getLogger("mess.foreign.catalogues")
BUILT_BY = "built_by"  # what a file says of a network in a catalogue
NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")  # timm: network.weights
PACKAGES = {"timm": "pip install 'mess-cnn[timm]'", "torchvision": "pip install torchvision"}
MAX_COUNT = 1 << 20  # classes, channels
IMAGES = ("mean", "std")


def build(spec: str, weights: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network for weights, with as many classes and input channels as these have.

    Returns:
        The network, without the weights, and facts for the file: what builds it, mean and std of its input.

    Raises:
        OptionError: no such network, or a package that is not installed.
    """
    if spec.partition(":")[0] not in PACKAGES:
        return _from_function(spec), {}
    model = build_named(spec)
    classes, channels = _count(model, weights, last=True), _count(model, weights, last=False)
    if classes is not None or channels is not None:
        model = build_named(spec, classes, channels)
    facts: dict[str, Any] = {BUILT_BY: spec}
    facts |= {k: v for k, v in (("num_classes", classes), ("in_chans", channels)) if v is not None}
    described = getattr(model, "pretrained_cfg", None)
    return model, facts | (input_facts(described) if isinstance(described, Mapping) else {})


def input_facts(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean, std and sizes of the input that a ``pretrained_cfg`` of timm says."""
    facts: dict[str, Any] = {part: [float(x) for x in described[part]] for part in IMAGES if described.get(part)}
    if isinstance(size := described.get("input_size"), tuple | list) and len(size) == 3:
        facts |= {"crop": int(size[1]), "resize": round(int(size[1]) / float(described.get("crop_pct") or 0.875))}
    return facts


def installed(package: str) -> bool:
    """Return whether a package is there, without importing it."""
    return sys.modules[package] is not None if package in sys.modules else find_spec(package) is not None


def build_named(spec: str, num_classes: Any = None, in_chans: Any = None) -> nn.Module:
    """Build a network of a catalogue; nothing is downloaded and no weights are loaded.

    Args:
        num_classes, in_chans: None: the catalogue's own.

    Raises:
        OptionError: no such network or catalogue, numbers that cannot be, or a package that does not import.
    """
    catalogue, _, name = spec.partition(":")
    if catalogue not in PACKAGES or not NAME.fullmatch(name) or len(name) > 200:
        raise OptionError("--arch", f"{' or '.join(f'{c}:NAME' for c in PACKAGES)}", spec[:80])
    given = {"num_classes": num_classes, "in_chans": in_chans}
    options = {part: count for part, count in given.items() if count is not None}
    for part, count in options.items():
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            raise OptionError(part, f"a number up to {MAX_COUNT}", count)
    make, names = _timm() if catalogue == "timm" else _torchvision()
    if name.partition(".")[0] not in names:
        raise OptionError("--arch", _near(names, name, catalogue), spec)
    log.info("building %s %s", spec, options)
    try:
        return make(name, options)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise OptionError("--arch", f"a network that {catalogue} builds", f"{spec}: {error}") from error


def _timm() -> tuple[Callable[[str, dict[str, Any]], nn.Module], list[str]]:
    timm = _package("timm")
    return lambda name, options: timm.create_model(name, pretrained=False, **options), timm.list_models()


def _torchvision() -> tuple[Callable[[str, dict[str, Any]], nn.Module], list[str]]:
    models = _package("torchvision").models

    def make(name: str, options: dict[str, Any]) -> nn.Module:
        builder = models.get_model_builder(name)
        # detectors and segmenters fetch a trained backbone, even with weights=None
        backbone = {"weights_backbone": None} if "weights_backbone" in signature(builder).parameters else {}
        return builder(weights=None, **backbone, **options)

    return make, models.list_models()


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # torchvision's wheel beside another build of torch: a RuntimeError
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        found = "none" if missing else f"one that does not import ({error})"
        raise OptionError("--arch", f"the package {name}", found, PACKAGES[name] if missing else "") from error


def _near(names: list[str], name: str, catalogue: str) -> str:
    known = one_of(names, name)
    _, near, told = known.partition(" (did you mean ")
    return f"a network of {catalogue}" + near + told


def _from_function(spec: str) -> nn.Module:
    """Call a function without arguments that builds a network.

    Raises:
        OptionError: no such function, or one that returns something else.
    """
    module, colon, name = spec.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), name)):
        kinds = ", ".join([*(f"{c}:NAME" for c in PACKAGES), "package.module:function"])
        raise OptionError("--arch", f"one of {kinds}", spec)
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError("--arch", f"a function {name} in a module {module} that can be imported", error) from error
    try:
        model = function() if callable(function) else function
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise OptionError("--arch", f"{spec} to build a network when it is called without arguments", said) from error
    if not isinstance(model, nn.Module):
        raise OptionError("--arch", f"{spec} to return a torch module", type(model).__name__)
    return model


def _count(model: nn.Module, weights: Mapping[str, Tensor], *, last: bool) -> int | None:
    """Return how many classes (inputs channels) the weights have, where that is another number than the model's."""
    matrices = [(name, p) for name, p in model.named_parameters() if p.dim() in ((2, 4) if last else (4,))]
    if not matrices:
        return None
    name, own = matrices[-1 if last else 0]
    axis = 0 if last else 1
    found = weights.get(name)
    if found is None or found.dim() != own.dim() or found.shape[axis] == own.shape[axis]:
        return None
    return int(found.shape[axis])
