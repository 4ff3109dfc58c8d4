"""The import rules: data flows one way, and a reader can rely on what a folder does not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mess"
FILES = sorted(PACKAGE.rglob("*.py"))

# folder, file or both -> what of ours and of others it must not import, at any depth of a file
FORBIDDEN = {
    "codec": ("torch", "mess.models", "mess.data", "mess.training", "mess.scheme", "mess.storing", "mess.recipes"),
    "scheme": ("mess.codec", "mess.storing", "mess.models", "mess.training", "mess.data", "mess.recipes"),
    "scheme/matched": ("mess.scheme.learned",),
    "scheme/learned": ("mess.scheme.matched",),
    "training": ("mess.codec", "mess.scheme", "mess.storing", "mess.models", "mess.data", "mess.recipes"),
    "models": ("mess.codec", "mess.scheme", "mess.storing", "mess.training", "mess.data", "mess.fetch", "mess.recipes"),
    "data": ("mess.codec", "mess.scheme", "mess.storing", "mess.training", "mess.models", "mess.recipes"),
    "fetch": ("mess.codec", "mess.scheme", "mess.storing", "mess.training", "mess.recipes"),
    "storing": ("mess.training", "mess.data", "mess.fetch", "mess.recipes"),
    "report": ("mess.training", "mess.data", "mess.recipes"),
    "export": ("mess.training", "mess.scheme", "mess.recipes", "mess.report"),
    # what a C program needs follows from what the codec holds, and from nothing else
    "export/c_sizes.py": ("torch", "mess.storing", "mess.models", "mess.data"),
    "recipes": ("mess.report",),
    "arithmetic": ("mess.codec", "mess.scheme", "mess.models", "mess.storing", "mess.training", "mess.recipes"),
    "foreign": ("mess.codec", "mess.scheme", "mess.models", "mess.storing", "mess.training", "mess.recipes"),
    "errors.py": ("torch", "numpy"),
    "files.py": ("torch", "numpy"),
}
TOP = ("cli", "__main__.py")  # nothing below knows the command line


def imports(path: Path, text: str | None = None) -> set[str]:
    """Every module a file imports, also inside functions, as absolute dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8") if text is None else text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def breaks(imported: set[str], forbidden: tuple[str, ...]) -> list[str]:
    return sorted(name for name in imported if any(name == f or name.startswith(f + ".") for f in forbidden))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_folder_imports_only_what_comes_before_it(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    places = [inside.as_posix(), *(parent.as_posix() for parent in inside.parents)]
    rules = tuple(name for place in places for name in FORBIDDEN.get(place, ()))
    assert breaks(imports(path), rules + (() if room(path) in TOP else ("mess.cli",))) == []


def test_the_rooms_stand_on_floors_without_a_circle() -> None:
    """Between rooms imports run one way, deferred ones too; the face of the package alone names every room."""
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        named = {name.split(".")[1].removesuffix(".py") for name in imports(path) if name.startswith("mess.")}
        here = room(path).removesuffix(".py")
        if here not in ("__init__", "__main__"):
            arrows.setdefault(here, set()).update(named & {room(other).removesuffix(".py") for other in FILES} - {here})
    floors = list(TopologicalSorter(arrows).static_order())  # raises CycleError, which names the circle
    assert floors.index("codec") < floors.index("storing") < floors.index("recipes") < floors.index("cli")
    assert floors.index("scheme") < floors.index("storing")


def test_the_check_itself_sees_a_forbidden_import() -> None:
    text = "def f():\n    from torch import nn\n    from ..scheme import matching\n    import numpy\n"
    found = breaks(imports(PACKAGE / "codec" / "imagined.py", text), FORBIDDEN["codec"])
    assert found == ["mess.scheme", "mess.scheme.matching", "torch", "torch.nn"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_devices_names_cuda_and_distributed(path: Path) -> None:
    if room(path) == "devices":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        f"{n.value.id}.{n.attr}"
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    assert not named & {"torch.cuda", "torch.distributed"}
    assert not breaks(imports(path), ("torch.distributed", "torch.cuda", "lightning_fabric"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_cli_and_report_print(path: Path) -> None:
    if room(path) in ("cli", "report"):
        return
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_is_longer_than_a_person_reads_at_once(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_reading_and_inspecting_a_file_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import mess, mess.codec; print(mess.__version__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_one_formatter_one_face() -> None:
    import mess

    missing = [name for name in mess.__all__ if not hasattr(mess, name)]
    assert missing == []
    assert set(mess.__all__) <= set(dir(mess))
