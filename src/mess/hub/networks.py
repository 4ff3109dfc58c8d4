"""What ``config.json`` of a repository says of its network: which one of timm it is, its input, names of its classes.

A file of others: whatever is not as it is expected counts as not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mess.foreign.catalogues import input_facts
from mess.foreign.weights_file import is_colour

MAX_SIDE = 4096  # pixels


def network_of(config: Mapping[str, Any]) -> str | None:
    """Return the network of timm as `mess.foreign.catalogues` names it, or None."""
    name = config.get("architecture")
    return f"timm:{name}" if isinstance(name, str) and isinstance(config.get("pretrained_cfg"), dict) else None


def input_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean, std, "resize" and "crop" where they are said."""
    try:
        facts = input_facts(config["pretrained_cfg"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError):
        return {}
    usable = all(is_colour(facts[name], name) for name in ("mean", "std") if name in facts)
    return facts if usable and all(0 < facts.get(name, 1) <= MAX_SIDE for name in ("resize", "crop")) else {}


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Return the names of classes, as timm (``label_names``) or transformers (``id2label``) write them; [] if none."""
    names = config.get("label_names")
    if isinstance(numbered := config.get("id2label"), dict):
        names = [numbered.get(str(number)) for number in range(len(numbered))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    described = config.get("label_descriptions")
    told = described if isinstance(described, dict) else {}
    return [word if isinstance(word := told.get(name, name), str) else name for name in names]
