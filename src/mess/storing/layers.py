"""What is asked of single layers: glob patterns over the names of tensors and modules, and what each of them says.

::

    {"features.*": {"finer": 2}, "classifier": "keep"}   the last pattern that matches a tensor says all of it
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from torch import Tensor

from mess.codec.quantize import BITS
from mess.errors import OptionError
from mess.scheme import Scheme

LayerRule: TypeAlias = Literal["keep"] | Mapping[str, float]
"""What is asked of a layer: ``"keep"``, or some of ``finer``, ``scale_bits``, ``offset_bits`` and ``rest_bits``."""
KEEP = "keep"
OF_LEARNED, OF_MATCHED, OF_COPIED = ("finer", "rest_bits"), ("scale_bits", "offset_bits", "rest_bits"), ("rest_bits",)
MAX_FACTOR = 1024.0  # times finer or coarser than the rest
MAX_SUGGESTED = 3  # names that are told where a pattern matches nothing


@dataclass(frozen=True)
class Asked:
    """What is asked of one tensor; None or 1: what holds for all of them.

    Attributes:
        keep: it is stored in its own dtype, bit for bit.
        finer: v4: its steps are smaller by this factor.
        scale_bits, offset_bits, rest_bits: as in `StoreOptions`.
    """

    keep: bool = False
    finer: float = 1.0
    scale_bits: int | None = None
    offset_bits: int | None = None
    rest_bits: int | None = None


def check_rules(layers: Mapping[str, LayerRule], scheme: Scheme) -> None:
    """Refuse what no layer can be asked for, before there is a network.

    Raises:
        OptionError: a rule that is neither "keep" nor a mapping of options of this version to numbers they can be.
    """
    if not isinstance(layers, Mapping):
        raise OptionError("layers", "a mapping of patterns to rules", type(layers).__name__)
    options = OF_LEARNED if scheme.learned else OF_COPIED if scheme.fit == "copy" else OF_MATCHED
    for pattern, rule in layers.items():
        where = f"layers {pattern!r}"
        if rule == KEEP:
            continue
        if not isinstance(rule, Mapping) or not rule:
            raise OptionError(where, f'"{KEEP}" or a mapping with some of {", ".join(options)}', repr(rule))
        for name, value in rule.items():
            if name not in options:
                raise OptionError(where, f"some of {', '.join(options)} with {scheme.version}", name)
            if name == "finer":
                good = type(value) in (int, float) and 1 / MAX_FACTOR <= value <= MAX_FACTOR
                expected = f"a factor from {1 / MAX_FACTOR:.2g} to {MAX_FACTOR:g}"
            else:
                good, expected = type(value) is int and value in BITS, "2…12, 16 or 32"
            if not good:
                raise OptionError(f"{where}, {name}", expected, repr(value))


def asked_of(
    layers: Mapping[str, LayerRule], weights: Mapping[str, Tensor], tied: Mapping[str, str]
) -> dict[str, Asked]:
    """Return what is asked of tensors, by name; tensors that are one get what the last pattern says of any of them.

    Args:
        layers: rules that `check_rules` let pass.
        weights: all tensors of the network, by name.
        tied: name → earlier name of the same tensor.

    Raises:
        OptionError: a pattern that matches nothing.
    """
    found: dict[str, Asked] = {}
    for pattern, rule in layers.items():
        matched = [name for name in weights if matches(pattern, name)]
        if not matched:
            known = list(dict.fromkeys(part for name in weights for part in parts_of(name)))
            near = difflib.get_close_matches(pattern, known, n=MAX_SUGGESTED, cutoff=0.4) or known[:MAX_SUGGESTED]
            raise OptionError(
                "layers", f"the name of a tensor or module, or a pattern of such names, as {', '.join(near)}", pattern
            )
        asked = Asked(keep=True) if isinstance(rule, str) else Asked(**rule)  # type: ignore[arg-type]
        found |= {tied.get(name, name): asked for name in matched}
    return {name: found[first] for name in weights if (first := tied.get(name, name)) in found}


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern means a tensor: by its name, or by that of a module it is in."""
    return any(part == pattern or fnmatchcase(part, pattern) for part in parts_of(name))


def parts_of(name: str) -> Iterator[str]:
    """Yield the modules that a tensor is in, from the outermost on, and its own name."""
    yield from (name[: dot.start()] for dot in re.finditer(r"\.", name))
    yield name


def require_effect(layers: Mapping[str, LayerRule], option: str, names: set[str], what: str) -> None:
    """Refuse a rule whose `option` says nothing of the tensors it matches: it does of `names`, `what` in words."""
    for pattern, rule in layers.items():
        if isinstance(rule, Mapping) and option in rule and not any(matches(pattern, name) for name in names):
            raise OptionError(f"layers {pattern!r}, {option}", f"a pattern that matches {what}", "only others")
