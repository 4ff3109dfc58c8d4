"""Help and `inspect` come at once: no torch, and the tables of names that stand in for it are true."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import mess
from make_layouts import FILE, entries, usual
from mess.cli import VERBS
from mess.data.info import KNOWN
from mess.devices.fabric import FABRIC_PRECISIONS
from mess.layouts import CIFAR_FORM, known_layout
from mess.models import ARCHITECTURES, architecture, layout, resolve
from mess.names import DATASETS, FAMILIES, PRECISIONS, SCHEDULES, VERSIONS
from mess.scheme import SCHEMES
from mess.training.schedule import SHAPES

GOLDEN = Path(__file__).parent / "golden"
WITHOUT = "import sys; sys.modules['torch'] = None; sys.modules['matplotlib'] = None; from mess.cli import main; "


def without_torch(*commands: list[str]) -> str:
    """Run commands one after the other in a process that has no torch, and return what they print."""
    code = f"{WITHOUT}sys.exit(max(map(main, {commands!r})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("words", [*([verb, "--help"] for verb in VERBS), ["completion", "bash"]])
def test_help_and_completion_import_no_torch(words: list[str]) -> None:
    assert len(without_torch(words)) > 100


def test_files_of_the_zoo_are_inspected_without_torch(in_folder: Path) -> None:
    model = mess.create_model("resnet", layers=20, num_classes=7)
    report = mess.compress(model, "net.mess", "v2")
    assert json.loads(without_torch(["inspect", "net.mess", "--json"]))["bytes"] == report.bytes
    golden = [*GOLDEN.glob("*.mess")]
    told = without_torch(*(["inspect", str(path)] for path in golden))
    assert told.count("CRC-32") == told.count("SHA-256") == len(golden)


def test_another_width_is_inspected_with_the_zoo(in_folder: Path) -> None:
    mess.compress(mess.create_model("resnet", layers=8, width_mult=0.5), "net.mess", "v2")
    assert mess.inspect("net.mess").network == {**resolve("resnet", "cifar10", layers=8, width_mult=0.5).to_dict()}


def test_names_are_those_of_the_tables() -> None:
    assert tuple(KNOWN) == DATASETS
    assert tuple(sorted(ARCHITECTURES)) == FAMILIES
    assert tuple(SCHEMES) == VERSIONS
    assert tuple(SHAPES) == SCHEDULES
    assert tuple(FABRIC_PRECISIONS) == PRECISIONS
    assert set(architecture.CIFAR_FORM) == set(CIFAR_FORM)


def test_layouts_are_those_of_the_zoo() -> None:
    """`python tests/make_layouts.py` writes them anew."""
    made = {key: entries(network) for key, network in usual().items()}
    assert json.loads(FILE.read_text(encoding="utf-8")) == made
    network = replace(resolve("mobilenetv2", "imagenet"), num_classes=3)
    assert known_layout(network.to_dict()) == layout(network)


@pytest.mark.parametrize(
    "wrong",
    [{"arch": ["resnet"]}, {"layers": True}, {"num_classes": 0}, {"num_classes": "10"}, {"width_mult": 10**400}],
)
def test_a_file_that_says_nonsense_of_its_network_gets_no_layout(wrong: dict) -> None:
    network = resolve("resnet", "cifar10", layers=20).to_dict()
    assert known_layout(network) is not None
    assert known_layout({**network, **wrong}) is None


def test_training_in_one_process_imports_neither_the_compiler_nor_fabric(tmp_path: Path) -> None:
    """Each takes as long as torch itself."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.argv[1:] = [{str(tmp_path)!r}];"
        "import training_fakes; training_fakes.main();"
        "print([name for name in ('torch._dynamo', 'sympy', 'lightning_fabric') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_commands_that_train_and_store_import_nothing_that_speaks_to_servers_or_draws() -> None:
    names = ["requests", "huggingface_hub", "onnx", "matplotlib", "torch._dynamo", "sympy", "lightning_fabric", "timm"]
    code = f"import sys, mess.cli.choices, mess.cli.progress; print([n for n in {names} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
