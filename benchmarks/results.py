"""Everything that is claimed, measured and written down: `make bench-results`.

    python benchmarks/results.py --datapath ../data          # measures what is missing, a row at a time, then all pages
    python benchmarks/results.py --pages                     # writes the pages of what is measured, measures nothing

Accuracy and bytes are measured here, through answers.py; figures of speed, of robustness, of the decoder and of ONNX
models have commands of their own, which the index names. Every page of docs/results is made of the JSON beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ablation_page
import answers
import answers_figure
import answers_page
import decoder
import decoding
import gpu_page
import images
import matching
import onnx_models
import robustness_page
import schemes_page
import soak_page
import storing
import training
import whole
from common import RESULTS, one_level_down, read_rows, write_page
from runs import SCRATCH, VERSIONS

Lines = list[str]
SPEED: dict[str, Callable[[dict[str, Any]], Lines]] = {  # parts of one page, by their JSON
    "speed_training": training.page,
    "speed_whole": whole.page,
    "images": images.page,
    "speed_storing": storing.page,
    "matching": matching.page,
    "decoding": decoding.page,
}


@dataclass(frozen=True)
class Page:
    """One page of results: what it answers, what measures it, how it is made (no lines: nothing is measured)."""

    title: str
    says: str
    command: str
    make: Callable[[], Lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--pages", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.pages:
        rows = read_rows(answers.NAME)
        answers.measure(answers.missing(rows), rows, args.datapath)
    found = pages()
    for name, lines in found.items():
        write_page(name, lines)
    answers_figure.draw(read_rows("answers"))
    if "chain" in (soak := read_rows("soak")):
        soak_page.draw(soak["chain"], RESULTS / "soak.png")
    print("\n".join([*found["answers"], "", *found["schemes"]]))


def pages() -> dict[str, Lines]:
    """Return every page by the name of its file, the index among them."""
    made = {name: lines for name, page in PAGES.items() if (lines := page.make())}
    return {"README": _index(made), **made}


def _index(made: dict[str, Lines]) -> Lines:
    lines = [
        "# Results",
        "",
        "Every page is made of the JSON beside it by `python benchmarks/results.py --pages`.",
        "Scripts write that JSON, but for published.json, which has what others publish.",
        "Rows say the commit, machine and versions that they were measured with.",
        "",
        "| page | what it answers | measured by |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| [{PAGES[n].title}]({n}.md) | {PAGES[n].says} | {PAGES[n].command} |" for n in made)]


def _answers() -> Lines:
    rows = read_rows("answers")
    return answers_page.page(rows, read_rows("published"), _left_out(rows))


def _left_out(rows: dict[str, Any]) -> dict[str, Lines]:
    """Return what is planned for the page and not measured: methods with their settings, by network."""
    found: dict[str, dict[str, Lines]] = {}
    for job in answers.missing(rows):
        if job.method not in VERSIONS and job.network != SCRATCH.network:
            where = " (on a GPU)" if job.run is not None and job.run.on_gpu else ""
            found.setdefault(job.network, {}).setdefault(job.method, []).append(job.setting + where)
    return {
        network: [
            f"{method}: {' · '.join(settings)}" if settings != [""] else method for method, settings in own.items()
        ]
        for network, own in found.items()
    }


def _speed() -> Lines:
    lines = ["# Speed"]
    for name, page in SPEED.items():
        if rows := read_rows(name):
            lines += ["", *one_level_down(page(rows))]
    return lines


def _of(name: str, page: Callable[[dict[str, Any]], Lines]) -> Callable[[], Lines]:
    return lambda: page(rows) if (rows := read_rows(name)) else []


PAGES = {
    "answers": Page(
        "Accuracy and bytes", "what a stored network still answers, beside NNCodec and others", "`make bench-results`",
        _answers,
    ),
    "schemes": Page(
        "Every version of the scheme", "what v1 to v3a leave of a network, and what retraining wins back",
        "`make bench-results`", lambda: schemes_page.page(read_rows("answers")),
    ),
    "ablation": Page(
        "What each part of v4 is worth", "bytes without each part of the method, at the same divergence",
        "`make bench-ablation`", _of("ablation", ablation_page.page),
    ),
    "speed": Page(
        "Speed", "training, starting, reading pictures, storing, reading files",
        "`make bench`; `images.py`, `matching.py`, `decoding.py` of benchmarks/", _speed,
    ),
    "robustness": Page(
        "Robustness", "interrupted runs, full disks, damaged files", "`make soak`, `make fuzz`, `make fuzz-c`",
        lambda: robustness_page.page(read_rows("soak"), read_rows("fuzz")),
    ),
    "decoder": Page(
        "The decoder in C", "speed, and memory on a microcontroller", "`benchmarks/decoder.py`",
        _of("decoder", decoder.page),
    ),
    "onnx_models": Page(
        "Models that come as ONNX", "bytes and answers of models of PyPI's wheels", "`benchmarks/onnx_models.py`",
        _of("onnx_models", onnx_models.page),
    ),
    "gpu": Page("On a GPU", "speed beside a plain loop", "`make bench-gpu`", _of("gpu", gpu_page.page)),
}  # fmt: skip


if __name__ == "__main__":
    main()
