"""The whole page: what is compared first, then runs, then each file. One file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mess.codec.rows import network_name, scheme_name
from mess.display.durations import clock
from mess.report import drawn
from mess.report.facts import FileFacts
from mess.report.figures import REACH, within_reach
from mess.report.file_section import file_section, percent, stats
from mess.report.html import Html, table, tag
from mess.report.inline import inline_figure
from mess.report.results import Measured, of_networks
from mess.report.runs import RunFacts
from mess.report.style import STYLE
from mess.version import __version__

FEW_ROWS = 20
# nothing is loaded and nothing runs, whatever the names in a file say
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Report:
    """What is reported: files, runs, and benchmark results of the networks in the files."""

    title: str
    files: Sequence[FileFacts] = ()
    runs: Sequence[RunFacts] = ()
    results: Mapping[str, Sequence[Measured]] = field(default_factory=dict)


def make_report(
    title: str, files: Sequence[FileFacts], runs: Sequence[RunFacts], rows: Sequence[Measured] = ()
) -> Report:
    """Put a report together; of the results those of the files' networks are kept."""
    return Report(title, files, runs, of_networks(rows, [facts.info for facts in files]))


def page(report: Report) -> str:
    """Return the page. The same input gives the same page."""
    anchors = [f"file-{number}" for number in range(1, len(report.files) + 1)]
    parts = [
        _compared(report, anchors) if len(report.files) > 1 else None,
        _runs(report.runs) if report.runs else None,
        *(_measured(report, network, rows) for network, rows in report.results.items()),
        *map(file_section, report.files, anchors, labels(report.files)),
    ]
    links = [("runs", "training")] if report.runs else []
    links += [(f"results-{drawn.slug(network)}", f"{network}: size against accuracy") for network in report.results]
    links += list(zip(anchors, labels(report.files), strict=True))
    contents = tag("nav", [tag("a", label, href=f"#{anchor}") for anchor, label in links]) if len(links) > 1 else None
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        tag("title", report.title),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "main",
        tag("header", tag("h1", report.title), tag("p", _summary(report), class_="note"), contents),
        *parts,
        tag(
            "footer", f"MESS {__version__}, mess report. Sizes are those of the files; nothing on this page is loaded."
        ),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def figures_of(report: Report) -> list[tuple[str, drawn.Drawn]]:
    """Return every figure of a report with what its file names start with: the file's name, where there are several."""
    found = [("", one) for one in drawn.of_runs(report.runs)]
    found += [("", _drawn_results(report, network, rows)) for network, rows in report.results.items()]
    several = len(report.files) > 1
    for facts, label in zip(report.files, labels(report.files), strict=True):
        found += [(drawn.slug(label.removesuffix(".mess")) if several else "", one) for one in drawn.of_file(facts)]
    return found


def labels(files: Sequence[FileFacts]) -> list[str]:
    """Return names of the files that differ."""
    return distinct([facts.path for facts in files])


def distinct(paths: Sequence[Path], parts: int = 1) -> list[str]:
    """Return names that differ: the last parts of each path, `parts` of them or as many more as that takes."""
    found = []
    for path in paths:
        for depth in range(min(parts, len(path.parts)), len(path.parts) + 1):
            name = "/".join(path.parts[-depth:])
            if sum("/".join(other.parts[-depth:]) == name for other in paths) == 1:
                break
        found.append(name)
    return found


def _summary(report: Report) -> str:
    counts = [
        f"{len(things)} {name}{'s' if len(things) > 1 else ''}"
        for things, name in ((report.files, "file"), (report.runs, "run"))
        if things
    ]
    total = sum(facts.info.bytes for facts in report.files)
    return " and ".join(counts) + (f", {total:,} bytes" if report.files else "")


def _compared(report: Report, anchors: Sequence[str]) -> Html:
    most = max(facts.info.bytes for facts in report.files)
    lost = any(facts.loss for facts in report.files)
    rows = []
    for facts, anchor, label in zip(report.files, anchors, labels(report.files), strict=True):
        info = facts.info
        bar = tag("div", *(tag("i", class_="c-blue", style=f"width:{100 * info.bytes / most:.2f}%"),))
        rows.append(
            tag(
                "tr",
                tag("td", tag("a", label, href=f"#{anchor}", class_="name"), class_="first"),
                tag("td", f"{network_name(info)}, {scheme_name(info.scheme)}", class_="muted sub"),
                tag("td", f"{info.bytes:,}", class_="r"),
                tag("td", f"{info.ratio:.1f}×", class_="r"),
                tag("td", f"{info.bits_per_weight:.2f} b", class_="r"),
                tag("td", percent(facts.loss.total) if facts.loss else "", class_="r err") if lost else None,
                tag("td", bar, class_="bar"),
            )
        )
    headings = ("file", "network and scheme", "bytes", "smaller", "bits a weight", *(["error"] if lost else []), "")
    compared = table(headings, rows, "folding compared")
    return tag("section", tag("h2", "The files compared"), compared, id="compared")


def _runs(runs: Sequence[RunFacts]) -> Html:
    parts: list[Html] = []
    for run in runs:
        if not run.columns["epoch"]:
            text = "No epoch is done yet: curves come with the first row of log.csv."
            parts += [tag("h3", run.name), tag("p", text, class_="note")]
            continue
        best, epoch = run.best
        going = run.done < run.epochs
        state = f"{run.done} of {run.epochs}"
        left = [("left at this pace", clock(run.seconds_left))] if going else []
        parts += [
            tag("h3", run.name, class_="name" if len(runs) > 1 else None),
            stats(
                ("top-1 on test images, best epoch", f"{best:.2f}%"),
                ("in epoch", str(epoch)),
                ("epochs done", state),
                ("time so far" if going else "time", clock(run.seconds)),
                *left,
            ),
        ]
    charts = [tag("div", inline_figure(one.draw(), f"runs-{one.name}", one.says)) for one in drawn.of_runs(runs)]
    return tag("section", tag("h2", "Training"), parts, tag("div", charts, class_="charts"), id="runs")


def _measured(report: Report, network: str, rows: Sequence[Measured]) -> Html:
    one = _drawn_results(report, network, rows)
    shown = within_reach(rows)
    missing = len(rows) - len(shown)
    note = f" {missing} rows more than {REACH:g} points below the best are in the table only." if missing else ""
    lines = [
        tag(
            "tr",
            tag("td", f"{row.method}{', ' if row.setting else ''}{row.setting}", class_="first"),
            tag("td", f"{row.bytes:,}", class_="r"),
            tag("td", f"{row.top1:.2f}", class_="r"),
        )
        for row in rows
    ]
    listed = table(("method", "bytes", "top-1 %"), lines)
    if len(rows) > FEW_ROWS:
        listed = tag("details", tag("summary", f"all {len(rows)} rows"), listed)
    return tag(
        "section",
        tag("h2", f"{network}: size against accuracy"),
        tag("p", "Benchmark results; a dotted line marks a file of this report, whose accuracy is not measured here."
            + note,
            class_="note"),
        tag("div", tag("div", inline_figure(one.draw(), one.name, one.says)), tag("div", listed), class_="beside"),
        id=f"results-{drawn.slug(network)}",
    )  # fmt: skip


def _drawn_results(report: Report, network: str, rows: Sequence[Measured]) -> drawn.Drawn:
    fitting = {
        label: facts.info.bytes
        for facts, label in zip(report.files, labels(report.files), strict=True)
        if of_networks(rows, [facts.info])
    }
    return drawn.of_results(network, rows, fitting)
