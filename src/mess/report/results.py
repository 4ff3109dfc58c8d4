"""Benchmark results, as docs/results/*.json has them: bytes and accuracy of a network under every method measured."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mess.codec import FileInfo
from mess.errors import DataError

FLOAT = "float"
VERSION = re.compile(r"v[0-9][a-z]?")
CIFAR10 = "cifar10"  # what rows were measured on that do not say


@dataclass(frozen=True)
class Measured:
    """One row: a network stored in one way. `top1` is in percent, of the network read back from the file."""

    dataset: str
    network: str
    method: str
    setting: str
    bytes: int
    top1: float


def read_results(path: str | os.PathLike[str]) -> list[Measured]:
    """Read the rows of a file of results that have bytes and accuracy.

    Known are rows with `network`, `method` and `setting`, and rows of versions of the scheme of which these three are
    the key, joined by "|"; in a list or as the values of an object.

    Raises:
        DataError: not JSON, or no such row in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(path, "JSON", error) from error
    pairs = content.items() if isinstance(content, dict) else (("", row) for row in content)
    rows = [row for key, value in pairs if (row := _row(str(key), value)) is not None]
    if not rows:
        raise DataError(path, "rows with network, method, bytes and top1", "none")
    return rows


def _row(key: str, value: Any) -> Measured | None:
    if not isinstance(value, dict) or not all(type(value.get(name)) in (int, float) for name in ("bytes", "top1")):
        return None
    network, method, setting = [*key.split("|", 2), "", ""][:3]
    if "network" in value and "method" in value:
        network, method, setting = str(value["network"]), str(value["method"]), str(value.get("setting", ""))
    elif method != FLOAT and not VERSION.fullmatch(method):
        return None
    elif setting.isdigit():
        setting += " bits"
    dataset = str(value.get("dataset", CIFAR10))
    return Measured(dataset, network, method, setting, int(value["bytes"]), float(value["top1"])) if network else None


def of_networks(rows: Iterable[Measured], files: Iterable[FileInfo]) -> dict[str, list[Measured]]:
    """Return rows by network, in the order of bytes: of those networks only that one of the files holds."""
    wanted = {(info.network.get("dataset"), slug) for info in files if info.network and (slug := _slug(info.network))}
    found: dict[str, list[Measured]] = {}
    for row in sorted(set(rows), key=lambda row: (row.network, row.bytes, row.method, row.setting)):
        if any(row.dataset == dataset and names(row.network, slug) for dataset, slug in wanted):
            found.setdefault(row.network, []).append(row)
    return found


def names(network: str, slug: str) -> bool:
    """Return whether results of "ResNet-20 fine-tuned" are those of a `resnet20`."""
    plain = re.sub(r"[^a-z0-9]", "", network.lower())
    return re.match(rf"{re.escape(slug)}(?![0-9])", plain) is not None


def _slug(network: Mapping[str, Any]) -> str:
    """Return what a network of standard width is called in results, "" for any other."""
    arch, width = network.get("arch"), network.get("width_mult", 1.0)
    if arch == "wideresnet":
        return f"{arch}{network.get('layers')}{width:g}"
    return f"{arch}{network.get('layers') or ''}" if width == 1.0 else ""
