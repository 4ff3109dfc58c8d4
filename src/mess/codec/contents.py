"""The manifest's meaning: which tensors a file holds, in what order their streams stand (FORMAT.md 5.1 to 5.4).

Kinds of a tensor, as the manifest writes them: ``P`` stored by itself; ``M3`` matched with codebook 3, with scale and
offset; ``C3`` a copy of a reference of codebook 3; ``E3`` sums of its references (clause 10); ``B0`` a BatchNorm layer
with the first eps of the list (``b0`` where it counts no batches); ``T`` the same as another tensor; ``-`` part of a
BatchNorm that has been told already.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mess.arithmetic.cut import Cut
from mess.codec.dtypes import DTYPES, NAMED
from mess.codec.model import (
    BATCH_NORM_PARTS,
    BatchNorm,
    Codebook,
    Expanded,
    Layout,
    Matched,
    Plain,
    StoredModel,
    Tied,
    checked_shape,
    joined,
)
from mess.errors import FormatError

Named = list[tuple[str, tuple[int, ...], str]]
MAX_TENSORS = 1 << 20
NO_LAYOUT = "the layout of the network it names"  # what a reader without the zoo misses
MAX_NAME = 1024  # characters
KEPT = "kept"  # in a scheme: names of the weights that were asked to stay as they are
LOOK = "look"  # in a scheme: how the stored network answered before it was written
NUMBERS_A_UNIT = {"M": 3, "C": 1}  # index, scale and offset; index
KIND = re.compile(r"([MCEBb])([0-9]{1,6})|([PT-])")


@dataclass(frozen=True)
class Item:
    """One tensor, or one BatchNorm layer (under its prefix), of a file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    book: int = -1
    to: str = ""
    eps: float = 0.0
    tracked: bool = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tensors that it gives."""
        if self.kind != "B":
            return (self.name,)
        parts = BATCH_NORM_PARTS if self.tracked else BATCH_NORM_PARTS[:-1]
        return tuple(joined(self.name, part) for part in parts)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensor; of a BatchNorm layer those of one of its four vectors."""
        return math.prod(self.shape) * NAMED[self.dtype].bytes


@dataclass(frozen=True)
class Contents:
    """What there is; nothing of it decoded yet."""

    network: dict[str, Any] | None
    scheme: dict[str, Any]
    books: list[Codebook]
    own_numbers: list[int]
    items: list[Item]

    @cached_property
    def decoded_bytes(self) -> int:
        """Bytes of all tensors in memory, ties too, and four for each number that some are computed from.

        These are references of their own, an index (and scale and offset) a unit, integers, and levels of terms.
        """
        numbers, tensors = sum(self.own_numbers), 0
        for item in self.items:
            tensors += self.owners[item.to].tensor_bytes if item.kind == "T" else item.tensor_bytes
            if item.kind == "B":
                tensors += 3 * item.tensor_bytes
            elif item.kind == "E":
                rows, columns, terms = self.expansion(item)
                numbers += (rows * columns + 1) * terms
            elif item.kind in NUMBERS_A_UNIT:
                numbers += NUMBERS_A_UNIT[item.kind] * self.units(item)
        return tensors + 4 * numbers

    @cached_property
    def owners(self) -> dict[str, Item]:
        """The item that gives each tensor, by the tensor's name."""
        return {name: item for item in self.items for name in item.names}

    @cached_property
    def sources(self) -> frozenset[str]:
        """The tensors that codebooks are cut from."""
        return frozenset(book.source for book in self.books if book.source is not None)

    @cached_property
    def kept(self) -> frozenset[str]:
        """The weights of which the file says that they were asked to stay as they are."""
        told = self.scheme.get(KEPT)
        return frozenset(name for name in told if isinstance(name, str)) if isinstance(told, list) else frozenset()

    def is_source(self, name: str) -> bool:
        """Return whether a codebook is cut from this tensor."""
        return name in self.sources

    def units(self, item: Item) -> int:
        """Return how many units a matched tensor has."""
        book = self.books[item.book]
        return Cut.of(item.shape, book.unit, book.by_row).units

    def expansion(self, item: Item) -> tuple[int, int, int]:
        """Return rows, units a row and references of a tensor of sums of references; no rows where there are no units.

        A tensor without numbers may have more rows than there can be bytes in memory.
        """
        units = math.prod(item.shape) // self.books[item.book].unit
        rows = item.shape[0] if units else 0
        return rows, units // rows if rows else 0, self.references(item.book)

    def references(self, number: int) -> int:
        """Return how many references a codebook has."""
        book = self.books[number]
        if book.source is None:
            return self.own_numbers[number] // book.unit
        return Cut.of(self.owners[book.source].shape, book.unit, book.by_row).references_every(book.stride)

    def needed(self, names: Iterable[str]) -> set[str]:
        """Return the items that decoding these tensors takes.

        Raises:
            FormatError: a tensor that is not in the file.
        """
        wanted: set[str] = set()
        for name in names:
            if name not in self.owners:
                raise FormatError(name, "a tensor of the file", "none of that name")
            item = self.owners[name]
            if item.kind == "T":
                item = self.owners[item.to]
                wanted.add(name)
            wanted.add(item.name)
            if item.kind in "MCE" and (source := self.books[item.book].source) is not None:
                wanted.add(source)
        return wanted


def make_manifest(stored: StoredModel, named: Named | None) -> tuple[dict[str, Any], list[str]]:
    """Return the manifest and the order of the entries: the layout's, or by name."""
    eps = sorted({entry.eps for entry in stored.entries.values() if isinstance(entry, BatchNorm)})
    place_of_eps = {one: place for place, one in enumerate(eps)}
    kinds = {name: _kind(entry, place_of_eps) for name, entry in stored.entries.items()}
    manifest: dict[str, Any] = {"scheme": stored.scheme}
    if stored.network is not None:
        manifest["network"] = stored.network
    if eps:
        manifest["eps"] = eps
    if named is not None:
        norms = [name for name, entry in stored.entries.items() if isinstance(entry, BatchNorm)]
        folded = {joined(name, part): name for name in norms for part in BATCH_NORM_PARTS}
        told = [_told(name, folded, kinds) for name, _, _ in named]
        place_of = {name: place for place, (name, _, _) in enumerate(named)}
        ties = [
            [place, place_of[entry.to]]
            for name, place in place_of.items()
            if isinstance(entry := stored.entries.get(name), Tied)
        ]
        manifest |= {"layout": layout_crc(named), "kinds": told}
        if ties:
            manifest["ties"] = ties
        order = [folded.get(name, name) for (name, _, _), kind in zip(named, told, strict=True) if kind != "-"]
    else:
        order = sorted(stored.entries)
        manifest["tensors"] = [_row(name, stored.entries[name], kinds[name]) for name in order]
    places = {name: place for place, name in enumerate(order)}
    manifest["books"] = [
        [places[b.source] if b.source is not None else -1, b.unit, b.stride, int(b.by_row), len(b.numbers or ())]
        for b in stored.books
    ]
    return manifest, order


def read_contents(manifest: dict[str, Any], layout: Layout | None, where: str) -> Contents:
    """Check a manifest's meaning and return it.

    Raises:
        FormatError: names what does not fit.
    """
    where = f"{where}: manifest"
    unknown = set(manifest) - {"scheme", "network", "eps", "layout", "kinds", "ties", "tensors", "books"}
    if unknown:
        raise FormatError(where, "entries that this version knows", ", ".join(sorted(unknown))[:80])
    scheme, network = manifest.get("scheme"), manifest.get("network")
    if not isinstance(scheme, dict) or not isinstance(network, dict | None):
        raise FormatError(where, "a scheme and, maybe, a network, each an object", "something else")
    eps = manifest.get("eps", [])
    if not isinstance(eps, list) or not all(isinstance(e, float) and 0 <= e < 1 for e in eps):
        raise FormatError(where, "a list of eps in 0…1", repr(eps)[:60])
    items = (
        _from_rows(manifest, eps, where)
        if "tensors" in manifest
        else _from_layout(manifest, network, layout, eps, where)
    )
    names = [name for item in items for name in item.names]
    if len(set(names)) != len(names):
        raise FormatError(where, "names that differ", "one that stands twice")
    books, own = _books(manifest.get("books"), items, where)
    contents = Contents(network, scheme, books, own, items)
    _check_links(contents, where)
    return contents


def layout_crc(layout: Named) -> int:
    """Return the CRC-32 that guards against a network whose definition has changed since (FORMAT.md 5.4)."""
    return zlib.crc32(json.dumps(layout, separators=(",", ":")).encode())


def _kind(entry: object, place_of_eps: dict[float, int]) -> str:
    if isinstance(entry, Plain):
        return "P"
    if isinstance(entry, Matched):
        return f"{'C' if entry.scale_N is None else 'M'}{entry.book}"
    if isinstance(entry, Expanded):
        return f"E{entry.book}"
    if isinstance(entry, BatchNorm):
        return f"{'B' if entry.tracked else 'b'}{place_of_eps[entry.eps]}"
    return "T"


def _told(name: str, folded: dict[str, str], kinds: dict[str, str]) -> str:
    if name not in folded:
        return kinds[name]
    return kinds[folded[name]] if name == joined(folded[name], BATCH_NORM_PARTS[0]) else "-"


def _row(name: str, entry: object, kind: str) -> list[Any]:
    if isinstance(entry, Plain | Matched | Expanded):
        return [name, kind, list(entry.shape), NAMED[entry.dtype].number]
    if isinstance(entry, BatchNorm):
        return [name, kind, [len(entry.scale)], 0]
    return [name, kind, entry.to]  # type: ignore[attr-defined]


def _from_rows(manifest: dict[str, Any], eps: list[float], where: str) -> list[Item]:
    rows = manifest["tensors"]
    if beside := manifest.keys() & {"layout", "kinds", "ties"}:
        raise FormatError(where, "nothing of a layout beside tensors", ", ".join(sorted(beside)))
    if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
        raise FormatError(where, f"a list of at most {MAX_TENSORS} tensors", "something else")
    items = []
    for row in rows:
        if not isinstance(row, list) or not 3 <= len(row) <= 4 or not all(isinstance(x, str) for x in row[:2]):
            raise FormatError(where, "tensors as [name, kind, shape, dtype]", repr(row)[:60])
        name, kind = row[:2]
        if len(name) > MAX_NAME or not name.isprintable():
            raise FormatError(where, f"names of at most {MAX_NAME} printable characters", repr(name)[:60])
        if kind == "T":
            if len(row) != 3 or not isinstance(row[2], str):
                raise FormatError(f"{where}: {name}", "the name of another tensor", repr(row[2:])[:60])
            items.append(Item(name, "T", (), "uint8", to=row[2]))
            continue
        dtype = row[3] if len(row) == 4 else None
        if type(dtype) is not int or not 0 <= dtype < len(DTYPES):
            raise FormatError(f"{where}: {name}", f"a dtype 0 to {len(DTYPES) - 1}", repr(dtype)[:40])
        items.append(_item(name, kind, checked_shape(row[2], name), DTYPES[dtype].name, eps, where))
    if [item.name for item in items] != sorted({item.name for item in items}):
        raise FormatError(where, "tensors sorted by name, each once", "another order")
    return items


def _from_layout(
    manifest: dict[str, Any], network: dict[str, Any] | None, layout: Layout | None, eps: list[float], where: str
) -> list[Item]:
    if network is None:
        raise FormatError(where, "tensors, or a network that says them", "neither")
    if layout is None:
        raise FormatError(where, NO_LAYOUT, "none", "Pass layout=, or write it self-contained")
    named = layout(network)
    if manifest.get("layout") != layout_crc(named):
        raise FormatError(
            where, f"the layout of {network.get('arch')} with CRC {layout_crc(named)}", manifest.get("layout")
        )
    kinds = manifest.get("kinds")
    if not isinstance(kinds, list) or len(kinds) != len(named) or not all(isinstance(k, str) for k in kinds):
        raise FormatError(where, f"{len(named)} kinds", repr(kinds)[:60])
    ties = manifest.get("ties", [])
    good = isinstance(ties, list) and all(
        isinstance(t, list) and len(t) == 2 and all(type(x) is int and 0 <= x < len(named) for x in t) for t in ties
    )
    if not good:
        raise FormatError(where, "ties as pairs of places", repr(ties)[:60])
    tied = {place: named[to][0] for place, to in ties}
    items: list[Item] = []
    for place, ((name, shape, dtype), kind) in enumerate(zip(named, kinds, strict=True)):
        if kind == "-":
            if not (items and items[-1].kind == "B" and name in items[-1].names[1:]):
                raise FormatError(f"{where}: {name}", "part of the BatchNorm before it", "another tensor")
        elif kind == "T":
            if place not in tied:
                raise FormatError(f"{where}: {name}", "what it is tied to", "nothing")
            items.append(Item(name, "T", (), dtype, to=tied[place]))
        else:
            if kind[:1] in "Bb":
                name = name.removesuffix(BATCH_NORM_PARTS[0]).removesuffix(".")
            items.append(_item(name, kind, shape, dtype, eps, where))
    if [n for item in items for n in item.names] != [n for n, _, _ in named]:
        raise FormatError(where, "every tensor of the layout once", "others")
    return items


def _item(name: str, kind: str, shape: tuple[int, ...], dtype: str, eps: list[float], where: str) -> Item:
    found = KIND.fullmatch(kind)
    if not found or kind in ("-", "T"):
        raise FormatError(f"{where}: {name}", "a kind P, M0, C0, E0, B0, b0 or T", kind[:20])
    if kind == "P":
        return Item(name, "P", shape, dtype)
    letter, number = found[1], int(found[2])
    if letter in "MCE":
        return Item(name, letter, shape, dtype, book=number)
    if number >= len(eps) or len(shape) != 1 or dtype != "float32":
        raise FormatError(f"{where}: {name}", "a BatchNorm of one dimension, float32, with an eps of the list", kind)
    return Item(name, "B", shape, dtype, eps=eps[number], tracked=letter == "B")


def _books(rows: object, items: list[Item], where: str) -> tuple[list[Codebook], list[int]]:
    if not isinstance(rows, list) or len(rows) > MAX_TENSORS:
        raise FormatError(where, "a list of codebooks", repr(rows)[:60])
    books, own = [], []
    for row in rows:
        if not isinstance(row, list) or len(row) != 5 or not all(type(x) is int and abs(x) < 1 << 40 for x in row):
            raise FormatError(where, "codebooks as [source, unit, stride, by row, own numbers]", repr(row)[:60])
        source, unit, stride, by_row, numbers = row
        inside = -1 <= source < len(items) and (source < 0 or items[source].kind == "P")
        counts = unit >= 1 and stride >= 1 and by_row in (0, 1) and numbers >= 0
        if not inside or not counts or (source >= 0) == (numbers > 0):
            raise FormatError(where, "a codebook cut from a tensor, or with numbers of its own", repr(row)[:60])
        if numbers % unit:
            raise FormatError(where, f"whole references of {unit} numbers", numbers)
        books.append(Codebook(None if source < 0 else items[source].name, unit, stride, bool(by_row)))
        own.append(numbers)
    return books, own


def _check_links(contents: Contents, where: str) -> None:
    for item in contents.items:
        if item.kind == "T" and (item.to not in contents.owners or contents.owners[item.to].kind == "T"):
            raise FormatError(f"{where}: {item.name}", "to be tied to a tensor that is stored", item.to[:60])
        if item.kind in "MCE":
            if item.book >= len(contents.books):
                raise FormatError(f"{where}: {item.name}", f"a codebook below {len(contents.books)}", item.book)
            if not NAMED[item.dtype].is_float or not contents.references(item.book):
                raise FormatError(f"{where}: {item.name}", "floats, and a codebook with references", item.dtype)
        if item.kind == "E":
            unit = contents.books[item.book].unit
            if not item.shape or math.prod(item.shape[1:]) % unit:
                raise FormatError(f"{where}: {item.name}", f"rows of whole units of {unit} numbers", item.shape)
