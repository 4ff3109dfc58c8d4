"""A file to its tensors in one step, by whichever reader serves: C where it was built, else Python. The same bits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mess.codec import native
from mess.codec.container import Section, pack_sections
from mess.codec.contents import Contents, Item
from mess.codec.dtypes import NAMED
from mess.codec.frames import RAW
from mess.codec.model import Layout
from mess.codec.model_file import GRAPH, LARGEST_MODEL, MANIFEST, check_size, open_model, read_model, unpacked_graph
from mess.codec.reconstruct import Tensor, batch_norm_tensors, reconstruct

WEIGHT, BIAS = 1, 2  # parts of a BatchNorm layer, as mess.h counts them


@dataclass(frozen=True)
class Facts:
    """What a file says beside its tensors, as `StoredModel` has it."""

    network: dict[str, Any] | None
    scheme: dict[str, Any]
    graph: bytes | None


def read_tensors(
    path: str | os.PathLike[str] | bytes,
    *,
    layout: Layout | None = None,
    max_bytes: int = LARGEST_MODEL,
    names: Iterable[str] | None = None,
) -> tuple[Facts, dict[str, Tensor]]:
    """Return what a file says beside its tensors, and these (or only `names`), each with memory of its own.

    Raises:
        FormatError: the file breaks FORMAT.md, or is larger than allowed.
    """
    wanted = None if names is None else list(names)
    if native.library() is not None:
        contents, sections, where = open_model(path, layout=layout)
        check_size(contents, max_bytes, where)
        try:
            graph = unpacked_graph(sections.pop(GRAPH, None), where)
            return Facts(contents.network, contents.scheme, graph), _decoded(contents, sections, wanted)
        except native.NativeRefusedError:
            pass  # the reader below says what is wrong
    stored = read_model(path, layout=layout, max_bytes=max_bytes, names=wanted)
    return Facts(stored.network, stored.scheme, stored.graph), reconstruct(stored, names=wanted)


def _decoded(contents: Contents, sections: dict[int, Section], names: list[str] | None) -> dict[str, Tensor]:
    needed = None if names is None else contents.needed(names)
    found: dict[str, Tensor] = {}
    wanted: list[native.Wanted] = []
    items = [item for item in contents.items if item.kind != "T"]  # ties cost nothing here, and C a search each
    for place, item in enumerate(items):
        if needed is not None and item.name not in needed:
            continue
        if item.kind == "B":
            found |= _batch_norm(place, item, wanted)
        else:
            out = np.empty(item.shape, NAMED[item.dtype].array)
            found[item.name] = (out, item.dtype)
            wanted.append(native.Wanted(place, 0, out))
    manifest = json.dumps(_manifest(contents, items), separators=(",", ":"), ensure_ascii=False).encode()
    native.decode(pack_sections([Section(MANIFEST, RAW, manifest), *sections.values()]), wanted)
    for item in contents.items:
        if item.kind == "T" and (needed is None or item.name in needed):
            array, dtype = found[item.to]
            found[item.name] = (array.copy(), dtype)
    return found if names is None else {name: found[name] for name in names}


def _batch_norm(place: int, item: Item, wanted: list[native.Wanted]) -> dict[str, Tensor]:
    size = item.shape[0]
    weight, bias = np.empty(size, np.float32), np.empty(size, np.float32)
    wanted += [native.Wanted(place, WEIGHT, weight), native.Wanted(place, BIAS, bias)]
    return batch_norm_tensors(item.name, weight, bias, tracked=item.tracked)


def _manifest(contents: Contents, items: list[Item]) -> dict[str, Any]:
    """Return a manifest that says everything of these items, in the order of their streams."""
    eps = sorted({item.eps for item in items if item.kind == "B"})
    place_of_eps = {one: place for place, one in enumerate(eps)}
    places = {item.name: place for place, item in enumerate(items)}
    rows: list[list[Any]] = []
    for item in items:
        number = "" if item.kind == "P" else place_of_eps[item.eps] if item.kind == "B" else item.book
        kind = item.kind if item.tracked else "b"
        rows.append([item.name, f"{kind}{number}", list(item.shape), NAMED[item.dtype].number])
    books = [
        [-1 if b.source is None else places[b.source], b.unit, b.stride, int(b.by_row), own]
        for b, own in zip(contents.books, contents.own_numbers, strict=True)
    ]
    return {"scheme": {}, "eps": eps, "books": books, "tensors": rows}
