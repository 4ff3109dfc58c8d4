"""Hooks of MkDocs: README.md and CHANGELOG.md stand at the repository's root, and results come and go."""

from __future__ import annotations

import re
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
    """Add the pages of the root, with links as seen from docs/."""
    for source, target in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/results\)", "](results/README.md)", text)
        text = re.sub(r"\]\(docs/", "](", text)
        text = re.sub(r'(src|srcset)="docs/', r'\1="', text)
        text = re.sub(r"\[([^]]+)\]\(CITATION\.cff\)", r"\1", text)
        files.append(File.generated(config, target, content=text))
    return files
