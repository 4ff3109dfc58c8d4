"""The notebook runs from its first cell to its last, and the page shows what it showed."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TOOLS = runpy.run_path(str(DOCS / "notebook.py"))
NOTEBOOK = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_tutorial_runs_and_stores_a_good_network(in_folder: Path) -> None:
    pytest.importorskip("sklearn")
    shown = [outputs for _, outputs in TOOLS["run"](NOTEBOOK)]
    assert len(shown) == len(TOOLS["cells_of"](NOTEBOOK, "code"))
    text = "".join("".join(output.get("text", [])) for outputs in shown for output in outputs)
    right = float(text.split("right on ")[1].split("%")[0])
    stored = [line.split() for line in text.splitlines() if line.startswith(("float", "stored"))]
    (whole, before), (size, after) = [(int(w[1].replace(",", "")), float(w[3].strip("%"))) for w in stored]
    assert right == before > 95
    assert after > before - 2
    assert whole / size > 10
    assert [[o["output_type"] for o in outputs] for outputs in shown] == [
        [o["output_type"] for o in cell["outputs"]] for cell in TOOLS["cells_of"](NOTEBOOK, "code")
    ]


def test_the_stored_notebook_is_whole() -> None:
    """By nbformat 4.5, without the package: what Jupyter wants of each cell, and every cell run, in order."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    code = TOOLS["cells_of"](NOTEBOOK, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in NOTEBOOK["cells"]:
        assert cell.keys() >= {"id", "cell_type", "metadata", "source"}
    for cell in code:
        ast.parse(TOOLS["source_of"](cell))
        for output in cell["outputs"]:
            told = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            assert "/tmp" not in told
            assert "/home" not in told


def test_a_page_shows_code_and_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    table: Any = type("Table", (), {"__repr__": lambda _: "plain", "_repr_html_": lambda _: "<b>\n\nfull</b>"})
    cells = ["x = 2\nprint('told', x)", "x + 1", "None", "y = table()\ny"]
    made = [{"cell_type": "code", "source": [source]} for source in ["from builtins import table", *cells]]
    import builtins

    builtins.table = table
    try:
        notebook = {"cells": [{"cell_type": "markdown", "source": ["# A", "\n"]}, *made]}
        for number, (cell, outputs) in enumerate(TOOLS["run"](notebook), start=1):
            cell |= {"outputs": outputs, "execution_count": number}
    finally:
        del builtins.table
    assert capsys.readouterr().out == ""
    page = TOOLS["page_of"](notebook)
    assert page.startswith("# A\n")
    assert "```text\ntold 2\n```" in page
    assert "```python\nx + 1\n```\n\n```text\n3\n```" in page
    assert "None\n```\n\n```python" in page  # nothing shown
    assert "<b>  full</b>" in page
