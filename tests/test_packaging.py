"""Wheel and sdist: what is in them, and that they work where only they are installed."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mess
from mess import create_model

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY", "VIRTUAL_ENV"))}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as in a fresh shell, anywhere but in the sources."""
    return subprocess.run([*map(str, command)], cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False)


def done(*command: object, cwd: Path) -> str:
    """Run a command that must succeed and return what it prints."""
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return (sdist, wheel): the sdist is built from a copy of the sources, the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    source, out = folder / "source", folder / "out"
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    for name in ("src", "tests", "docs", "benchmarks", "decoder", "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=NOT_SOURCE)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    done(sys.executable, "-c", build, cwd=source)
    (sdist,) = out.iterdir()
    options = ["--no-deps", "--no-index", "--no-build-isolation"]
    done(sys.executable, "-m", "pip", "wheel", *options, "-w", out, sdist, cwd=folder)
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a fresh environment with the wheel in it, and what it depends on lent from this one."""
    folder = tmp_path_factory.mktemp("installed")
    environment(folder / "venv", sys.executable, built[1])
    lent = next((folder / "venv" / "lib").glob("python*/site-packages")) / "lent.pth"
    lent.write_text(sysconfig.get_paths()["purelib"])
    return folder / "venv" / "bin"


def environment(venv: Path, python: str, wheel: Path) -> None:
    """Make an environment of some Python with nothing but the wheel in it."""
    done(python, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python"]
    done(*pip, "install", "--no-deps", "--no-index", wheel, cwd=venv.parent)


def test_the_wheel_has_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        told = email.message_from_bytes(wheel.read(f"mess_cnn-{mess.__version__}.dist-info/METADATA"))
        scripts = wheel.read(f"mess_cnn-{mess.__version__}.dist-info/entry_points.txt").decode()
    package = ROOT / "src"
    expected = {p.relative_to(package).as_posix() for p in package.glob("mess/**/*") if p.is_file()}
    assert names == {name for name in expected if not name.endswith(".pyc")}
    assert {"mess/py.typed", "mess/fetch/weights.json", "mess/decoder/mess.h", "mess/decoder/reader.c"} <= names
    assert told["Name"] == "mess-cnn"
    assert told["Requires-Python"] == ">=3.10"
    assert {"demo", "onnx", "tensorboard", "imagenet", "dev"} <= set(told.get_all("Provides-Extra"))
    assert "mess = mess.cli:main" in scripts
    assert "# MESS" in told.get_payload()


def test_the_sdist_has_all_that_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt", "main.py", "docs/FORMAT.md"}
    wanted |= {f"tests/{p.relative_to(ROOT / 'tests').as_posix()}" for p in (ROOT / "tests").glob("**/*.py")}
    wanted |= {f"tests/golden/{p.name}" for p in (ROOT / "tests" / "golden").iterdir() if p.is_file()}
    assert wanted - names == set()
    assert not [name for name in names if name.endswith((".pyc", ".pth")) or name.startswith((".venv", "checkpoint"))]


def test_the_commands_work_where_only_the_wheel_is(installed: Path, tmp_path: Path) -> None:
    where = done(installed / "python", "-c", "import mess; print(mess.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert done(installed / "mess", "--version", cwd=tmp_path).startswith(f"mess {mess.__version__}\n")
    assert "mess compress" in done(installed / "mess", cwd=tmp_path)
    weights = create_model("resnet", layers=8).state_dict()
    save_file(weights, tmp_path / "net.safetensors")
    done(installed / "mess", "compress", "net.safetensors", "-v", "v2", "-o", "net.mess", cwd=tmp_path)
    assert "resnet8" in done(installed / "mess", "inspect", "net.mess", cwd=tmp_path)
    for name in ("net.pth", "net.c", "plain.mess"):
        done(installed / "mess", "decompress", "net.mess", "-o", name, cwd=tmp_path)
    again = torch.load(tmp_path / "net.pth", weights_only=True)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in mess.load_state_dict(tmp_path / "net.mess").items())
    refused = run(installed / "mess", "decompress", "net.mess", "-o", "net.tflite", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("mess: ")


RIGHT = """
import torch

import mess

model: torch.nn.Module = mess.create_model("resnet", layers=20)
report: mess.SizeReport = mess.compress(model, "net.mess", scheme="v2")
size: int = report.bytes
weights: dict[str, torch.Tensor] = mess.load_state_dict("net.mess")
info: mess.FileInfo = mess.inspect("net.mess")
"""
WRONG = """
import mess

size: str = mess.inspect("net.mess").bytes
mess.load("net.mess").evaluate_everything = mess.lod("net.mess")
mess.create_model(20)
"""


def test_a_type_checker_sees_the_types(installed: Path, tmp_path: Path) -> None:
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python"]
    mypy += ["--cache-dir", tmp_path / "cache"]
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    assert "Success" in done(*mypy, "right.py", cwd=tmp_path)
    said = run(*mypy, "wrong.py", cwd=tmp_path).stdout
    assert {line.split(":")[1] for line in said.splitlines() if ": error:" in line} == {"4", "5", "6"}


def interpreter(version: str) -> str:
    """Return a Python of that version, on the path or among pyenv's; skip where there is none."""
    found = shutil.which(f"python{version}")
    if found and run(found, "--version", cwd=Path("/")).returncode == 0:
        return found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python")):
        return str(path)
    pytest.skip(f"there is no Python {version} here")


@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_compiles_it_and_reads_files_without_torch(
    version: str, built: tuple[Path, Path], tmp_path: Path
) -> None:
    environment(tmp_path / "venv", interpreter(version), built[1])
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    done(python, "-W", "error", "-m", "compileall", "-q", site / "mess", cwd=tmp_path)
    needed = ["numpy>=1.26", "constriction>=0.4", "zstandard>=0.22", "rich>=13.7", "rich-argparse>=1.5"]
    fetched = run(sys.executable, "-m", "pip", "--python", python, "install", "-q", *needed, cwd=tmp_path)
    if fetched.returncode:
        pytest.skip(f"no packages for Python {version} could be fetched: {fetched.stderr.splitlines()[-1:]}")
    assert done(python, "-W", "error", ROOT / "tests" / "read_golden.py", cwd=tmp_path).split() == list(
        json.loads((ROOT / "tests" / "golden" / "golden.json").read_text())
    )
    mess_ = tmp_path / "venv" / "bin" / "mess"
    assert done(mess_, "--version", cwd=tmp_path).startswith(f"mess {mess.__version__}\n")
    golden = ROOT / "tests" / "golden" / "v2a.mess"
    assert f"{golden.stat().st_size:,} B" in done(mess_, "inspect", golden, cwd=tmp_path)
