"""README and GUIDE do what they say: every block is run, or, where it cannot run here, understood by the real parser.

The blocks of a page run one after the other in one folder, as a reader types them, on a ResNet-8 and a handful of
pictures. What needs a GPU, a server or minutes is parsed (with `make test-slow` the last kind runs too).
"""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from mess.cli import VERBS, main, make_parser
from mess.errors import MessError
from test_data import write_cifar

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/GUIDE.md", "docs/API.md")
LANGUAGES = ("python", "shell", "c", "javascript", "toml", "text")  # text is what is printed, or drawn
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    "main.py": ("train", "main.py", "add_arguments"),
    "down_imagenet.py": ("fetch", "down_imagenet.py", "add_imagenet_arguments"),
    "down_ckpt.py": ("fetch", "down_ckpt.py", "add_ckpt_arguments"),
}
HUB = ("hf://owner/name/net.mess", "hf://owner/name/net.mess@main", "hf://timm/resnet18.a1_in1k", "push")
NOT_HERE = (
    "--cuda",
    "-C",
    "--pretrained",
    "fetch",
    "imagenet",
    "--arch",
    "run.toml",
    *HUB,
)  # GPUs, downloads, other libraries
TOO_LONG = (
    "demo",
    "--processes",
    "path/to/photos",
    "net.onnx",
    "again.onnx",
    "v4",
    "--figures",
    "--max-drop",
    "--target-size",
)  # run with the slow tests
WEIGHTS = ("weights.pth", "resnet20.th", "ckpt_best.pth", "pretrained_model.pth")  # what a reader has already


@dataclass(frozen=True)
class Block:
    """A fenced block: its page and line, language and text."""

    where: str
    language: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """Return the words of each command; a backslash goes on in the next line."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    return [Block(f"{page}:{text[: m.start()].count(chr(10)) + 1}", m[1], m[2]) for m in FENCED.finditer(text)]


def understood(words: list[str]) -> list[str] | None:
    """Return what `mess` is given by a command, once its parser took it; None for programs that are not ours.

    Raises:
        MessError: a verb or a flag that does not exist.
        AssertionError: a program, a target of make or an extra that does not exist.
    """
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    words = words[: next((at for at, word in enumerate(words) if word in (">", "|")), None)]
    program, *rest = words
    if program.startswith("python"):
        program, *rest = rest
        if program in PROGRAMS:
            make_parser(*PROGRAMS[program]).parse(rest)
            return [PROGRAMS[program][0], *rest] if program == "main.py" else ["fetch", *rest]
        assert (ROOT / program).is_file(), program
        return None
    if program in ("./run.sh", "./run_cifar.sh", "mess"):
        verb, *flags = rest if program == "mess" else ["train-all", *rest]
        assert verb in (*VERBS, "--version"), verb
        if verb in VERBS:
            make_parser(verb).parse(flags)
        return [verb, *flags]
    if program == "make":
        made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(made), rest
    elif program == "pip":
        declared = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        extras = re.findall(r"\[([a-z,]+)\]", " ".join(rest))
        assert {extra for found in extras for extra in found.split(",")} <= set(declared), rest
    elif program == "torchrun":
        assert "main.py" in rest
        make_parser(*PROGRAMS["main.py"]).parse(rest[rest.index("main.py") + 1 :])
    else:
        assert words in ([".", ".venv/bin/activate"], ["./down_ckpt_all.sh"]), words
    return None


def small(words: list[str]) -> list[str]:
    """Return the same command on a ResNet-8, one epoch and the pictures that are here."""
    verb, given = words[0], {}
    if verb in ("train", "test"):
        given = {"--epochs": "2" if "-R" in words else "1", "--datapath": "data", "-j": "0", "-b": "64"}
        if "resnet" in words:
            given["--layers"] = "8"
    elif verb == "train-all":
        return [*words, *([] if "--dry-run" in words else ["--dry-run"])]
    elif verb == "compress":
        words = [*words, "--no-verify", "--force"]
        given = {"--datapath": "data"} if "--calibration" in words else {}
        given |= {flag: easy for flag, easy in {"--target-size": "100KB", "--max-drop": "50"}.items() if flag in words}
    elif verb == "card":
        given = {"--datapath": "data", "-j": "0"}
    elif verb == "demo":
        words = [*words, "--epochs", "1", "--retrain-epochs", "1"]
    for flag, value in given.items():
        if flag in words:
            words = [value if before == flag else word for before, word in zip(["", *words], words, strict=False)]
        else:
            words = [*words, flag, value]
    return words


@pytest.fixture
def with_photos(in_folder: Path) -> Path:
    """A folder with pictures of one's own, which a parser looks for."""
    for number in range(8):
        picture = in_folder / "path/to/photos" / "ab"[number % 2] / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 40, 3), 30 * number, np.uint8)).save(picture)
    return in_folder


@pytest.fixture
def at_home(with_photos: Path, few_digits: None, quick_synthesis: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: CIFAR-10, own pictures, weights, a stored network."""
    write_cifar(with_photos / "data", "cifar10", python=False)
    monkeypatch.setattr("mess.storing.rate.size.DRAFTS", 2)  # what a search finds is for other tests
    monkeypatch.setattr("mess.storing.rate.size.SIZE_RUNS", 1)
    model = mess.create_model("resnet", layers=8)
    for name in WEIGHTS:
        torch.save(model.state_dict(), with_photos / name)
    mess.compress(model, with_photos / "net.mess", "v2")
    mess.compress(mess.create_model("resnet", dataset="digits", layers=8), with_photos / "digits.mess", "v2")
    return with_photos


def run(command: list[str]) -> int:
    """Run a command of `mess` here, or where it starts processes like its own, in one of its own."""
    if "--processes" in command:
        return subprocess.run([sys.executable, "-m", "mess", *command], timeout=300).returncode
    return main(command)


def follow(page: str, skipped: tuple[str, ...]) -> int:
    """Do what a page says and return how many commands of `mess` ran."""
    ran, names = 0, {"__name__": "page"}
    for block in blocks_of(page):
        if block.language == "toml":
            Path(block.text.split()[1]).write_text(block.text)  # its first line names it
        elif block.language == "python":
            program = compile(block.text, block.where, "exec")
            if not any(word in block.text for word in skipped):
                exec(program, names)
        elif block.language == "c" and (compiler := shutil.which("cc")):
            Path("example.c").write_text(block.text)
            subprocess.run([compiler, "-std=c99", "-Wall", "-Werror", "-o", "example", "example.c"], check=True)
            subprocess.run(["./example"], check=True)
        elif block.language == "javascript" and (node := shutil.which("node")):
            Path("node_modules").mkdir(exist_ok=True)
            if not Path("node_modules/mess-decoder").exists():
                Path("node_modules/mess-decoder").symlink_to(ROOT / "decoder" / "js")
            Path("example.mjs").write_text(block.text)
            subprocess.run([node, "example.mjs"], check=True)
        for words in block.commands() if block.language == "shell" else ():
            command = understood(words)
            if command is None or set(skipped) & {*command}:
                continue
            assert run(small(command)) == 0, f"{block.where}: {shlex.join(words)}"
            ran += 1
    return ran


@pytest.mark.parametrize("page", PAGES)
def test_a_reader_who_types_all_of_a_page_gets_there(page: str, at_home: Path) -> None:
    assert follow(page, (*NOT_HERE, *TOO_LONG)) >= (0 if page == "docs/API.md" else 4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES)
def test_what_takes_longer_works_too(page: str, at_home: Path) -> None:
    if page == "README.md":  # a reader's own; the guide makes one
        assert main(["decompress", "net.mess", "-o", "net.onnx"]) == 0
    assert follow(page, NOT_HERE) >= (0 if page == "docs/API.md" else 4)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is_and_every_command_is_understood(page: str, with_photos: Path) -> None:
    found = blocks_of(page)
    assert {block.language for block in found} <= set(LANGUAGES)
    assert (ROOT / page).read_text(encoding="utf-8").count("\n```") == 2 * len(found)
    for block in found:
        if block.language == "toml":
            Path(block.text.split()[1]).write_text(block.text)  # its first line names it
        for words in block.commands() if block.language == "shell" else ():
            understood(words)


def test_every_public_name_is_in_the_reference_with_what_it_takes() -> None:
    named = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/API.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.rpartition(".")[2] for name in named} == set(mess.__all__) - {"__version__"}
    for name in named:
        home, _, own = name.rpartition(".")
        public = getattr(mess, own)
        assert getattr(import_module(home), own) is public
        if inspect.isfunction(public):
            told = inspect.getdoc(public) or ""
            assert set(re.findall(r"^    (\w+): ", told, re.MULTILINE)) >= set(inspect.signature(public).parameters), (
                own
            )
            assert "Raises:" in told, own


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="`make docs` installs what builds the site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    run = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "https://fonts" not in page
    assert "https://unpkg" not in page
    assert "images/kernel.png" in page
    reference = (tmp_path / "site" / "API.html").read_text(encoding="utf-8")
    assert all(f'id="{getattr(mess, name).__module__}.{name}"' in reference for name in ("compress", "FileInfo"))
    if (browser := shutil.which("chromium")) is None:
        pytest.skip("no chromium here, to search the pages as they lie on the disk")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    found = [
        browser,
        *flags,
        "--virtual-time-budget=15000",
        "--dump-dom",
        f"{(tmp_path / 'site/index.html').as_uri()}?q=kernel",
    ]
    shown = subprocess.run(found, capture_output=True, text=True, timeout=240).stdout
    assert re.search(r"[1-9]\d* matching documents", shown)


def test_the_checks_themselves_see_what_is_wrong() -> None:
    block = blocks_of("imagined", "a\n\n```shell\nmess train digits --epoch 3 \\\n  -b 4  # so\nmess tarin\n```\n")[0]
    assert block.where == "imagined:3"
    first, second = block.commands()
    assert first == ["mess", "train", "digits", "--epoch", "3", "-b", "4"]
    with pytest.raises(MessError, match="did you mean --epochs"):
        understood(first)
    for wrong in (second, ["make", "demmo"], ["pip", "install", "mess-cnn[dmeo]"], ["rm", "-r", "/"]):
        with pytest.raises(AssertionError):
            understood(wrong)
    words = small(["train", "digits", "-a", "resnet", "--layers", "20", "--epochs", "3"])
    assert shlex.join(words) == "train digits -a resnet --layers 8 --epochs 1 --datapath data -j 0 -b 64"
