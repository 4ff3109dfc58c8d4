"""What is written is read back before it takes its name, unless somebody says no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mess
from mess import codec
from mess.codec import verification
from mess.errors import FormatError

NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))


@pytest.fixture
def wrong_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever is encoded come out as another network."""
    other = codec.StoredModel(
        None, {}, [], {"x": codec.Plain((1,), "uint8", codec.NumberArray(torch.ones(1).numpy().astype("u1"), "uint8"))}
    )
    content = codec.encode_model(other)
    monkeypatch.setattr(codec, "encode_model", lambda *_: content)
    monkeypatch.setattr("mess.codec.model_file.encode_model", lambda *_: content)


@pytest.mark.usefixtures("wrong_bytes")
def test_a_file_that_says_something_else_never_takes_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.mess"
    path.write_bytes(b"before")
    with pytest.raises(FormatError, match="others when read back"):
        mess.compress(NET, path, scheme="v2")
    assert path.read_bytes() == b"before"
    assert mess.compress(NET, path, scheme="v2", verify=False).bytes == path.stat().st_size


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_where_no_process_can_be_started_this_one_reads(
    executable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    mess.compress(NET, tmp_path / "net.mess", scheme="v2")
    assert mess.load_state_dict(tmp_path / "net.mess").keys() == NET.state_dict().keys()


def test_what_lies_in_the_folder_or_is_printed_at_the_start_of_python_does_not_matter(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("json.py").write_text("raise RuntimeError('not this one')")
    Path("start").mkdir()
    Path("start/sitecustomize.py").write_text("print('welcome')")
    monkeypatch.syspath_prepend(str(Path("start").resolve()))
    mess.compress(NET, "net.mess", scheme="v2")
    Path("start/sitecustomize.py").write_text("import atexit; atexit.register(print, 'bye')")
    mess.compress(NET, "net.mess", scheme="v2")
    assert mess.load_state_dict("net.mess").keys() == NET.state_dict().keys()


def test_the_reader_is_quick_because_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import mess.codec.verification"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert verification.tensor_hashes({}) == {}


def test_a_store_decodes_what_it_writes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, calls = codec.reconstruct, []
    monkeypatch.setattr(codec, "reconstruct", lambda *stored, **names: calls.append(stored) or decode(*stored, **names))
    mess.compress(NET, tmp_path / "net.mess", scheme="v2")
    assert len(calls) == 1
