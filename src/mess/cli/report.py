"""`mess report`: files and runs as one page to look at, and as figures."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from mess.cli.flags import Flag, add_flags
from mess.cli.output import make_console
from mess.errors import DataError, OptionError, WeightsError
from mess.files import atomic_write, check_output

if TYPE_CHECKING:
    import numpy as np

    from mess.report import FileFacts, Measured, RunFacts

EXAMPLES = """Examples:
  mess report net.mess
  mess report net.mess --original weights.pth
  mess report small.mess large.mess -o compared.html --figures figures
  mess report checkpoint/resnet/cifar10      # a run, also one still going"""
RESULTS = Path("docs/results")  # of a checkout


FLAGS = (
    Flag("what", "files, and folders of runs (checkpoint/ARCH/DATA)", "FILE.mess|RUN", Path, nargs="+"),
    Flag("-o --output", "default: report.html", "PAGE", Path, Path("report.html")),
    Flag("--original", "the weights that were stored (.pth, .th, .safetensors, .onnx): shows what storing changed",
         "WEIGHTS", Path, [], nargs="+"),
    Flag("--results", "bytes and accuracy of methods to compare with (default: "
         f"{RESULTS}/*.json, where there are some)", "JSON", Path, nargs="+"),
    Flag("--figures", "also write every figure as PNG and SVG", "FOLDER", Path),
    Flag("--title", "heading of the page", "TEXT"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `mess report`."""
    add_flags(parser, None, FLAGS)


def run(args: argparse.Namespace) -> int:
    """Gather, draw, write."""
    from mess.report import figures_of, make_report, page, save

    if args.output.suffix not in (".html", ".htm"):
        raise OptionError("--output", "a name that ends in .html", args.output)
    check_output(args.output, overwrite=True)
    console = make_console(args)
    with console.status("reading"):
        files, runs = _expanded(args.what)
        rows = results(args.results)
        report = make_report(
            args.title or heading(args.what),
            facts_of(files, args.original),
            [read_run(folder, name) for folder, name in zip(runs, run_names(runs), strict=True)],
            rows,
        )
    with console.status("drawing"):
        atomic_write(args.output, page(report).encode())
        drawn = save(figures_of(report), args.figures) if args.figures is not None else []
    console.print(f"[bold]{escape(str(args.output))}[/]  {args.output.stat().st_size:,} B", soft_wrap=True)
    if drawn:
        console.print(
            f"[bold]{escape(str(args.figures))}[/]  {len(drawn) // 2} figures, each as PNG and SVG", soft_wrap=True
        )
    return 0


def facts_of(files: list[Path], originals: list[Path]) -> list[FileFacts]:
    """Read files, and compare each with its original weights.

    Raises:
        WeightsError: original weights, and none of them belong to any of the files.
    """
    from mess.report import read_facts

    weights = [_arrays(path) for path in originals]
    facts = [read_facts(path, weights) for path in files]
    if originals and not any(one.loss for one in facts):
        found = "another network's, or another training's"
        raise WeightsError(originals[0], "the weights one of the files was made from", found)
    return facts


def run_names(folders: list[Path]) -> list[str]:
    """Return what runs are called: ARCH/DATA, and more of their folders where that is not enough."""
    from mess.report import distinct

    return distinct([folder.resolve() for folder in folders], 2)


def read_run(folder: Path, name: str) -> RunFacts:
    """Read what a run has logged so far; a run that has only begun has no rows yet."""
    from mess.report import RunFacts, stored_by_epoch
    from mess.training import EpochReport
    from mess.training.log import read_log

    log = folder / "log.csv"
    rows = read_log(log) if log.exists() else []
    columns = {field.name: [asdict(row)[field.name] for row in rows] for field in fields(EpochReport)}
    return RunFacts(name, rows[-1].epochs if rows else 0, columns, stored_by_epoch(folder))


def results(paths: list[Path] | None) -> list[Measured]:
    """Read the results that are named, or those of a checkout, of which not every file has bytes and accuracy."""
    from mess.report import read_results

    if paths is not None:
        return [row for path in paths for row in read_results(path)]
    found = []
    for path in sorted(RESULTS.glob("*.json")):
        try:
            found += read_results(path)
        except DataError:
            continue
    return found


def heading(what: list[Path]) -> str:
    """Return a title: the name of the one thing there is, else of the report."""
    if len(what) == 1:
        return run_names(what)[0] if what[0].is_dir() else what[0].name
    return "MESS report"


def _expanded(what: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return files and runs, each once; the stored form of a run's best epoch is a file like any other.

    Raises:
        OptionError: a folder that no run has written to.
    """
    from mess.report import best_files

    files, runs = [], []
    for path in what:
        if not path.is_dir():
            files.append(path)
            continue
        if not (path / "log.csv").exists() and not any(path.glob("ckpt_*")):
            raise OptionError(
                path, "the folder of a run, with log.csv (checkpoint/ARCH/DATA)", "neither log nor checkpoint"
            )
        runs.append(path)
        files += best_files(path)
    return _once(files), _once(runs)


def _once(paths: list[Path]) -> list[Path]:
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    from mess.extra_state import apart
    from mess.foreign.weights_file import load_weights
    from mess.graphs.model_files import is_onnx_file
    from mess.storing.graph import read_graph_network

    weights = read_graph_network(str(path)).state_dict() if is_onnx_file(path) else apart(load_weights(path)[0])[0]
    return {name: tensor.float().numpy() for name, tensor in weights.items()}
