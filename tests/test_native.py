"""The reader in C beside the one in Python: the same tensors, the same errors, and no compiler run unasked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mess
from c_decoder import examples, needs_compiler
from damage import mutants
from mess import codec
from mess.cli import main
from mess.codec import native
from mess.errors import FormatError, MessError
from mess.models.described import layout_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with the library in it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        native.build()
    native._loaded.cache_clear()
    return folder


@pytest.fixture
def in_c(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("MESS_READER", raising=False)
    native._loaded.cache_clear()
    yield
    native._loaded.cache_clear()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may fall to the reader in Python."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("Python has read it")

    monkeypatch.setattr("mess.codec.tensors.read_model", never)


def in_python(content: bytes, **options: object) -> dict[str, tuple[np.ndarray, str]]:
    return codec.reconstruct(codec.read_model(content, **options))


def same(found: dict, wanted: dict) -> bool:
    return list(found) == list(wanted) and all(
        found[n][1] == dtype and found[n][0].shape == a.shape and found[n][0].tobytes() == a.tobytes()
        for n, (a, dtype) in wanted.items()
    )


@needs_compiler
def test_both_readers_give_the_same_tensors_in_the_same_order(in_c: None, alone: None) -> None:
    for name, content in examples().items():
        assert same(codec.read_tensors(content)[1], in_python(content)), name
        some = sorted(in_python(content))[::2]
        assert list(codec.read_tensors(content, names=some)[1]) == some
    assert native.reader_name().startswith("C, on ")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "net.mess"
    mess.compress(mess.create_model("mobilenetv2", dataset="cifar10"), path, "v2", verify=False)
    return path


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_networks_that_are_named_and_large_are_read_on_all_threads(
    in_c: None, alone: None, large: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "ENOUGH_BYTES", 1000)
    monkeypatch.setattr(native, "threads", lambda: threads)
    found = mess.load_state_dict(large)
    wanted = in_python(large.read_bytes(), layout=layout_of)
    assert list(found) == list(wanted)
    assert all(found[n].numpy().tobytes() == array.tobytes() for n, (array, _) in wanted.items())
    loaded = mess.load(large).state_dict()
    assert all(torch.equal(loaded[n], tensor) for n, tensor in found.items())


@needs_compiler
def test_damaged_files_give_the_same_errors(in_c: None) -> None:
    for seed, content in enumerate(examples().values()):
        for damaged in mutants(content, 12, seed):
            try:
                wanted, error = in_python(damaged), ""
            except FormatError as refused:
                wanted, error = {}, str(refused)
            if error:
                with pytest.raises(FormatError) as found:
                    codec.read_tensors(damaged)
                assert str(found.value) == error
            else:
                assert same(codec.read_tensors(damaged)[1], wanted)


@needs_compiler
def test_more_memory_than_allowed_is_refused(in_c: None) -> None:
    content = examples()["v2a"]
    with pytest.raises(FormatError, match="allows more"):
        codec.read_tensors(content, max_bytes=1000)


@needs_compiler
def test_a_library_that_others_may_write_is_not_loaded(in_c: None) -> None:
    path = native.library_path()
    assert native.library() is not None
    for changed in (path, path.parent):
        before = changed.stat().st_mode
        changed.chmod(0o777)
        native._loaded.cache_clear()
        assert native.library() is None
        changed.chmod(before)
    native._loaded.cache_clear()
    assert native.library() is not None


def test_python_reads_where_nothing_was_built_and_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._loaded.cache_clear()
    assert native.reader_name() == "Python"
    content = examples()["v2a"]
    assert same(codec.read_tensors(content)[1], in_python(content))
    assert list(tmp_path.iterdir()) == []
    assert main(["reader"]) == 0
    assert "mess reader --build" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MessError, match="a C compiler"):
        native.build()
    assert main(["reader", "--build"]) == 2
    monkeypatch.setenv("CC", f"{sys.executable} -c 'no'")
    assert main(["reader", "--build"]) == 2
    assert list(tmp_path.glob("mess/*")) == []


@needs_compiler
def test_the_command_line_says_which_reader_serves(cache: Path, tmp_path: Path) -> None:
    for value, said in (("", "C, on"), ("python", "Python")):
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "MESS_READER": value}
        command = [sys.executable, "-m", "mess", "--version"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert f"files are read by {said}" in done.stdout
