"""Run a notebook and keep what its cells show, and write it as a page: `python docs/notebook.py docs/tutorial.ipynb`.

A notebook of plain Python needs no Jupyter to be run: cells follow one another in one namespace, and the value of a
last expression is shown. So the tests run it with nothing installed, and the page is built from what is stored.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
Output = dict[str, Any]


def run(notebook: dict[str, Any]) -> Iterator[tuple[Cell, list[Output]]]:
    """Run all cells of code and yield each with what it shows.

    Raises:
        Exception: whatever a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells_of(notebook, "code"), start=1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run_cell(source_of(cell), names, f"cell {number}")
        shown: list[Output] = []
        if printed.getvalue():
            shown.append({"output_type": "stream", "name": "stdout", "text": lines_of(printed.getvalue())})
        if value is not None:
            data = {"text/plain": lines_of(repr(value))}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = lines_of(value._repr_html_())
            shown.append({"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}})
        yield cell, shown


def page_of(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown: its text, its code, and below that what it showed."""
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(source_of(cell))
            continue
        parts.append(f"```python\n{source_of(cell)}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:  # on one line: Markdown ends HTML at an empty one
                parts.append(" ".join("".join(data["text/html"]).split("\n")))
            else:
                text = "".join(output.get("text") or data["text/plain"])
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def cells_of(notebook: dict[str, Any], kind: str) -> list[Cell]:
    """Return the cells of a kind."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source_of(cell: Cell) -> str:
    """Return what is written in a cell."""
    return "".join(cell["source"])


def lines_of(text: str) -> list[str]:
    """Return text as notebooks keep it, line by line, so that changes are told apart."""
    return text.splitlines(keepends=True)


def _run_cell(source: str, names: dict[str, Any], where: str) -> Any:
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)  # noqa: S102 - a notebook of this repository
    return None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307


def main(path: Path) -> None:
    """Run a notebook in a folder that is then deleted, and write it anew with what it shows."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, (cell, outputs) in enumerate(run(notebook), start=1):
                cell["outputs"], cell["execution_count"] = outputs, number
        finally:
            os.chdir(here)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
