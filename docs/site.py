"""Hooks of MkDocs: README.md and CHANGELOG.md stand at the root, results come and go, a notebook becomes a page."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_ROOT = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every page of results."""
    pages = [f"results/{path.name}" for path in sorted((ROOT / "docs" / "results").glob("*.md"))]
    config.nav = [{"Results": pages} if entry == {"Results": "RESULTS"} else entry for entry in config.nav or []]
    config.nav.append({"Changes": "CHANGELOG.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, with links as seen from docs/, and the tutorial with what it showed."""
    for source, target in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/results\)", "](results/README.md)", text)
        text = re.sub(r"\]\(docs/tutorial\.ipynb\)", "](tutorial.md)", text)
        text = re.sub(r"\]\(docs/", "](", text)
        text = re.sub(r'(src|srcset)="docs/', r'\1="', text)
        text = re.sub(r"\[([^]]+)\]\(CITATION\.cff\)", r"\1", text)
        files.append(File.generated(config, target, content=text))
    page_of = runpy.run_path(str(ROOT / "docs" / "notebook.py"))["page_of"]
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, "tutorial.md", content=page_of(notebook)))
    return files
