"""Which figures a report has: a name, words for those who cannot see it, and how it is drawn when it is wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from mess.codec.rows import rows_of
from mess.files import atomic_writer
from mess.report import figures, kernel_figures
from mess.report.facts import Book, FileFacts
from mess.report.results import Measured
from mess.report.runs import RunFacts


@dataclass(frozen=True)
class Drawn:
    """One figure. Those that are not `on_page` stand there in another form, which fits any width."""

    name: str
    says: str
    draw: Callable[[], Figure]
    on_page: bool = True


def of_runs(runs: Sequence[RunFacts]) -> list[Drawn]:
    """Return the curves of runs, drawn together."""
    runs = [run for run in runs if run.columns["epoch"]]
    if not runs:
        return []
    best = max(max(run.columns["test_top1"]) for run in runs)
    accuracy = {"test_top1": "test", "train_top1": "training"}
    loss = {"test_loss": "test", "train_loss": "training"}
    found = [
        Drawn("top1", f"accuracy over epochs, at best {best:.2f}% on test images",
              partial(figures.curves, runs, accuracy, "top-1 accuracy, %")),
        Drawn("loss", "loss over epochs", partial(figures.curves, runs, loss, "loss, nats an image", log=True)),
        Drawn("learning-rate", "learning rate over epochs", partial(figures.curves, runs, {"lr": ""}, "learning rate")),
    ]  # fmt: skip
    if any(len(run.sizes) > 1 for run in runs):
        found.append(Drawn("bytes-by-epoch", "bytes of the file over epochs", partial(figures.sizes_by_epoch, runs)))
    return found


def of_results(network: str, rows: Sequence[Measured], files: Mapping[str, int]) -> Drawn:
    """Return bytes against accuracy of a network, and where the report's files are."""
    says = f"accuracy of {network} over bytes of the file, by method"
    marks = {name: (count, None) for name, count in files.items()}
    return Drawn(f"size-accuracy-{slug(network)}", says, partial(figures.size_accuracy, rows, marks))


def of_file(facts: FileFacts) -> list[Drawn]:
    """Return the figures of one file."""
    found: list[Drawn] = []

    def add(name: str, says: str, draw: Callable[[], Figure], *, on_page: bool = True) -> None:
        found.append(Drawn(name, says, draw, on_page))

    rows = rows_of(facts.info)
    add("bytes-by-layer", "bytes by layer", partial(figures.bytes_by_layer, rows), on_page=False)
    for number, book in enumerate(facts.books):
        _add_book(add, book, f"-{number}" if len(facts.books) > 1 else "")
    if facts.steps:
        draw = partial(figures.by_layer, facts.steps, "step of the integers", "blue")
        add("steps", "step of the integers by layer", draw)
    if facts.loss is not None:
        label = "reconstruction error ‖w − ŵ‖² / ‖w‖²"
        draw = partial(figures.by_layer, facts.loss.by_layer, label, "purple", percent=True)
        add("error", "reconstruction error by layer", draw)
        if facts.loss.worst:
            draw = partial(kernel_figures.worst_kernels, facts.loss.worst, "kernels that changed most")
            add("worst-kernels", "the kernels that changed most, before and after", draw, on_page=False)
    return found


def _add_book(add: Callable[..., None], book: Book, end: str) -> None:
    """Add the figures of a codebook; `end` keeps their names apart from another's."""
    if book.terms_TM is not None:
        title = f"integers of {book.what}"
        add(f"integers{end}", title, partial(kernel_figures.terms, book, title), on_page=False)
    if book.kernel or book.uses_K is not None:
        title = f"references: {book.what}"
        add(f"references{end}", title, partial(kernel_figures.references, book, title), on_page=False)
    if book.uses_K is not None:
        says = f"units that point to each of {len(book.uses_K):,} references"
        add(f"index{end}", says, partial(figures.uses, book.uses_K, f"index k, {book.what}"))
    for name, label, values_N, colour in (
        ("alpha", "scales α", book.scale_N, "orange"),
        ("beta", "offsets β", book.offset_N, "green"),
    ):
        if values_N is not None and len(values_N):
            label = f"{label}, {book.what}"
            add(f"{name}{end}", f"histogram of {label}", partial(figures.histogram, values_N, label, colour))


def save(drawn: Sequence[tuple[str, Drawn]], folder: Path) -> list[Path]:
    """Write each figure as PNG and as SVG.

    Args:
        drawn: (what its file names start with, or "", the figure).
        folder: made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for prefix, one in drawn:
        figure = one.draw()
        for ending in ("png", "svg"):
            path = folder / f"{prefix}{'-' if prefix else ''}{one.name}.{ending}"
            with atomic_writer(path) as file:
                figures.write(figure, file, ending, dpi=160, facecolor="white")
            paths.append(path)
    return paths


def slug(name: str) -> str:
    """Return a name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "unnamed"
