"""The part of a page that is about one file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mess.codec import bits_per_weight
from mess.codec.rows import (
    NAME_OF_SECTION,
    Row,
    by_reason,
    is_weight,
    network_name,
    precision_of,
    rows_of,
    scheme_name,
    seen_of,
)
from mess.errors import first_few
from mess.report.colours import OF_SECTION
from mess.report.drawn import of_file
from mess.report.facts import Book, FileFacts, Loss
from mess.report.figures import TAIL
from mess.report.html import Html, joined, table, tag
from mess.report.inline import inline_figure
from mess.report.kernel_figures import magnitude_names
from mess.report.pictures import kernel_picture

MAX_REFERENCES = 96  # drawn; more make the page long and say nothing new
COUNTED = f"Histograms count the outermost {TAIL:.0%} of the numbers at either end in their last bars."
MANY_ROWS = 40  # layers that are shown without being asked for


def file_section(facts: FileFacts, anchor: str, name: str) -> Html:
    """Return everything a report says of one file."""
    info = facts.info
    charts = [
        tag("div", inline_figure(one.draw(), f"{anchor}-{one.name}", one.says)) for one in of_file(facts) if one.on_page
    ]
    seen = seen_of(info.scheme)
    about = f"{network_name(info)}, scheme {scheme_name(info.scheme)}; {precision_of(info)}{'; ' if seen else ''}{seen}"
    return tag(
        "section",
        tag("h2", name),
        tag("p", about, class_="note"),
        stats(
            ("bytes", f"{info.bytes:,}"),
            ("smaller than float", f"{info.ratio:.1f}×"),
            ("bits a weight", f"{info.bits_per_weight:.2f}"),
            ("weights", f"{info.numbers:,}"),
            *([("error ‖w − ŵ‖² / ‖w‖²", percent(facts.loss.total))] if facts.loss else []),
        ),
        _sections(facts),
        _layers(facts),
        _by_themselves(facts),
        *(_book(book, facts.info.bytes) for book in facts.books),
        tag("h3", "The numbers") if charts else None,
        tag("p", COUNTED, class_="note") if any(book.scale_N is not None for book in facts.books) else None,
        tag("div", charts, class_="charts") if charts else None,
        _worst(facts.loss) if facts.loss else None,
        tag("h3", "Checksums"),
        tag("p", "SHA-256 ", tag("span", info.sha256, class_="name"), class_="note"),
        id=anchor,
    )


def stats(*pairs: tuple[str, str]) -> Html:
    """Return key figures, each above what it is."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_="stats")


def percent(share: float) -> str:
    """Return a share: 12.3%, 0.45%, < 0.01%."""
    if 0 < share < 1e-4:
        return "< 0.01%"
    return f"{100 * share:.0f}%" if share >= 1 else f"{100 * share:.1f}%" if share >= 0.01 else f"{100 * share:.2g}%"


def stack(parts: Mapping[str, int], most: int) -> Html:
    """Return a bar cut into sections, as long as its share of `most`."""
    pieces = (
        tag("i", class_=f"c-{OF_SECTION.get(name, 'grey')}", style=f"width:{100 * count / max(1, most):.2f}%")
        for name, count in parts.items()
        if count
    )
    return tag("div", *pieces)


def _sections(facts: FileFacts) -> Html:
    info = facts.info
    strip = [
        tag("i", class_=f"c-{OF_SECTION[name]}", style=f"width:{100 * count / info.bytes:.3f}%")
        for name, count in info.sections.items()
    ]
    rows = [
        tag(
            "tr",
            tag("td", tag("span", class_=f"key c-{OF_SECTION[name]}"), NAME_OF_SECTION[name]),
            tag("td", f"{count:,}", class_="r", data_section=name, data_bytes=count),
            tag("td", f"{count / info.bytes:.1%}", class_="r"),
            tag("td", f"{bits_per_weight(count, info.numbers):.3f}", class_="r"),
        )
        for name, count in info.sections.items()
    ]
    total = tag(
        "tr", tag("td", "the file"), tag("td", f"{info.bytes:,}", class_="r", data_file=info.bytes), tag("td"),
        tag("td", f"{info.bits_per_weight:.3f}", class_="r"), class_="total",
    )  # fmt: skip
    return joined(
        tag("h3", "Bytes by section"),
        tag("div", strip, class_="strip", role="img", aria_label="shares of the sections"),
        tag("div", table(("section", "bytes", "share", "bits a weight"), [*rows, total], "narrow"), class_="scroll"),
    )


def _layers(facts: FileFacts) -> Html:
    """Return each layer of weights with its bytes, and all else in a few rows."""
    rows = rows_of(facts.info, None)
    whole = _layer_table(rows, facts.loss)
    heading = tag("h3", "Bytes by layer")
    if len(rows) <= MANY_ROWS:
        return joined(heading, whole)
    return joined(
        heading,
        _layer_table(rows_of(facts.info), None),
        tag("details", tag("summary", f"each of {sum(map(is_weight, facts.info.tensors))} layers"), whole),
    )


def _layer_table(rows: list[Row], loss: Loss | None) -> Html:
    most = max(row.bytes for row in rows)
    headings = ["layer", "stored as", "bytes", "bits a weight", *(["error"] if loss else []), ""]
    return table(headings, [_layer(row, most, loss) for row in rows], "folding")


def _layer(row: Row, most: int, loss: Loss | None) -> Html:
    error = loss.by_layer.get(row.name) if loss else None
    return tag(
        "tr",
        tag("td", tag("span", row.name, class_="name" if len(row.shape) > 1 else None), class_="first"),
        tag("td", ", ".join(x for x in (row.what, row.extent) if x), class_="muted sub"),
        tag("td", f"{row.bytes:,}", class_="r", data_layer=row.name, data_bytes=row.bytes),
        tag("td", f"{row.bits_per_weight:.2f} b" if row.numbers else "", class_="r"),
        tag("td", "" if error is None else percent(error), class_="r err") if loss else None,
        tag("td", stack(row.parts, most), class_="bar"),
    )


def _by_themselves(facts: FileFacts) -> Html | None:
    reasons = by_reason(facts.info.tensors)
    if not reasons:
        return None
    rows = []
    for reason, tensors in reasons.items():
        names = first_few([tensor.name for tensor in tensors], 2)
        count = sum(tensor.bytes for tensor in tensors)
        rows.append(
            tag(
                "tr",
                tag("td", reason, class_="first"),
                tag("td", tag("span", names, class_="name"), class_="sub"),
                tag("td", f"{count:,}", class_="r"),
                tag("td", f"{count / facts.info.bytes:.1%}", class_="r"),
            )
        )
    return joined(
        tag("h3", "Stored by itself, and why"), table(("because it is", "what", "bytes", "share"), rows, "folding")
    )


def _book(book: Book, total: int) -> Html | None:
    if book.terms_TM is not None:
        return _terms(book)
    if book.uses_K is None or not total:
        return None
    order = book.order[:MAX_REFERENCES]
    unused = int((book.uses_K == 0).sum())
    idle = f"{unused:,} are never used" if unused else "each is used"
    units = int(book.uses_K.sum())
    share = book.uses_K[book.uses_K > 0] / max(1, units)
    entropy = float(-(share * np.log2(share)).sum())
    pictures = [
        tag(
            "div",
            kernel_picture(book.refs_KU[k], book.kernel, says=f"reference {k}, used {book.uses_K[k]:,} times"),
            f"{book.uses_K[k]:,}",
        )
        for k in order.tolist()
    ]
    shown = "" if len(order) == len(book.refs_KU) else f", the {len(order)} most used of them here"
    wide = max(46, 46 * min(4, book.refs_KU.shape[1] // 9)) if book.kernel else 92
    return joined(
        tag("h3", f"The references: {book.what}"),
        tag(
            "p",
            f"{units:,} units point to {len(book.refs_KU):,} references{shown}, most used first; {idle}. "
            f"An index carries {entropy:.2f} bits, of {np.log2(len(book.refs_KU)):.2f} if all were used alike. "
            "Red is above 0, blue below.",
            class_="note",
        ),
        tag("div", pictures, class_="kernels", style=f"--cell:{wide}px"),
    )


def _terms(book: Book) -> Html:
    """Return, for each reference of sums, its picture and what its integers are like."""
    lines = []
    for k, counts_M in enumerate(book.terms_TM if book.terms_TM is not None else ()):
        total = max(1, int(counts_M.sum()))
        pieces = [
            tag(
                "i", class_=f"m{place}", style=f"width:{100 * int(count) / total:.2f}%", title=f"{name}: {int(count):,}"
            )
            for place, (name, count) in enumerate(zip(magnitude_names(), counts_M, strict=True))
        ]
        picture = (
            kernel_picture(book.refs_KU[k], book.kernel, says=f"reference {k}") if book.kernel else tag("span", "")
        )
        lines += [picture, tag("div", pieces, class_="stack"), tag("span", f"{int(counts_M[0]) / total:.0%} are 0")]
    legend = [tag("span", tag("i", class_=f"key m{place}"), name) for place, name in enumerate(magnitude_names())]
    words = (
        "Every kernel is the sum of these references, each times an integer and the layer's step. A bar says how large "
        "the integers of a term are."
        if book.kernel
        else "Each weight is an integer times the layer's step. The bar says how large the integers are."
    )
    return joined(
        tag("h3", f"Integers by term: {book.what}"),
        tag("p", words, class_="note"),
        tag("div", lines, class_="terms"),
        tag("div", legend, class_="legend"),
    )


def _worst(loss: Loss) -> Html | None:
    if not loss.worst:
        return None
    cards = []
    for kernel in loss.worst:
        most = float(abs(kernel.before).max()) or 1.0
        shape = kernel.before.shape
        pictures = (("before", kernel.before), ("after", kernel.after), ("change", kernel.after - kernel.before))
        three = [
            tag("div", kernel_picture(x.reshape(-1), shape, most, f"{name}, {kernel.layer}"), name)
            for name, x in pictures
        ]
        place = f"[{kernel.place[0]}, {kernel.place[1]}], {percent(kernel.error)}"
        cards.append(
            tag(
                "div",
                tag("div", three, class_="three"),
                tag("div", tag("span", kernel.layer.removesuffix(".weight"), class_="name"), class_="note"),
                tag("div", place, class_="note"),
            )
        )
    return joined(
        tag("h3", "The kernels that changed most"),
        tag("p", "By squared change, in percent of the mean ‖w‖² of the layer's kernels; colours on the scale of the "
            "kernel before.", class_="note"),
        tag("div", cards, class_="worst"),
    )  # fmt: skip
