"""Checkpoint files: whole or refused, never run, always one generation left."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mess.errors import CheckpointError
from mess.training import checkpoint as files
from mess.training.run import Position

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}


def content(epoch: int = 1, **more: Any) -> dict[str, Any]:
    plain = {"format": 1, "architecture": None, "state_dict": TENSORS, "optimizer": {}, "scaler": {}, "extra": {}}
    return {**plain, "options": {}, "sums": [0.0], "ema": None, **vars(Position(epoch=epoch)), **more}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_comes_back_and_plain_torch_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ckpt.pth"
    files.save(path, content(3))
    assert files.load(path)["epoch"] == 3
    plain = torch.load(path, weights_only=True)
    assert torch.equal(plain["state_dict"]["a.weight"], TENSORS["a.weight"])
    assert zipfile.ZipFile(path).comment.startswith(b"sha256:")
    assert [p.name for p in path.parent.iterdir()] == ["ckpt.pth"]


SEALED = files.encode(content())


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= 1 << bit
    with pytest.raises(CheckpointError, match=r"damaged|cut short"):
        files.check_seal(bytes(damaged), "x")


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, len(SEALED) - 1))
def test_any_cut_is_noticed(length: int) -> None:
    with pytest.raises(CheckpointError, match="cut short"):
        files.check_seal(SEALED[:length], "x")


def test_a_pickle_bomb_is_refused_and_not_run(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    for name, protocol in (("new", True), ("old", False)):
        path = tmp_path / f"{name}.pth"
        torch.save({"state_dict": Bomb(fuse)}, path, _use_new_zipfile_serialization=protocol)
        with pytest.raises(CheckpointError, match="could run code; it was not loaded"):
            files.read_plain(path.read_bytes(), path)
    with pytest.raises(CheckpointError):
        files.read_plain(pickle.dumps(Bomb(fuse)), "bare.pkl")
    sealed = tmp_path / "sealed.pth"
    files.save(sealed, content(extra={"bomb": Bomb(fuse)}))
    with pytest.raises(CheckpointError, match="could run code"):
        files.load(sealed)
    assert not fuse.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "expected a checkpoint of format 1, found 2. It may be from a newer MESS"),
        ({"optimizer": [1]}, "expected an entry 'optimizer' of type dict, found list"),
        ({"best_top1": "high"}, "'best_top1' of type float, found str"),
    ],
)
def test_contents_that_are_not_ours(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    files.save(tmp_path / "x.pth", content(**changed))
    with pytest.raises(CheckpointError, match=message):
        files.load(tmp_path / "x.pth")


def test_a_checkpoint_of_a_gpu_loads_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "gpu.pth"
    torch.save(content(), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tagged = {n: m.replace(b"\x03\x00\x00\x00cpu", b"\x06\x00\x00\x00cuda:0") for n, m in members.items()}
    assert tagged != members
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in tagged.items():
            archive.writestr(name, member)
    loaded = files.read_plain(path.read_bytes(), path)
    assert loaded["state_dict"]["a.weight"].device.type == "cpu"


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_two_generations_and_a_fallback_that_names_what_it_skipped(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        files.save_last(tmp_path, content(epoch))
    files.save(tmp_path / "ckpt_epoch_1.pth", content(1))
    warnings: list[str] = []
    assert files.load_newest(tmp_path, warnings.append)[1]["epoch"] == 3
    assert warnings == []
    damage(tmp_path / files.LAST)
    path, checkpoint = files.load_newest(tmp_path, warnings.append)
    assert (path.name, checkpoint["epoch"]) == (files.PREVIOUS, 2)
    assert warnings[0].startswith(
        "skipped ckpt_last.pth (a file without its checksum: cut short, or not from MESS): going"
    )
    files.save_last(tmp_path, content(4))  # the damaged generation does not push out the good one
    assert files.load(tmp_path / files.PREVIOUS)["epoch"] == 2
    damage(tmp_path / files.LAST)
    damage(tmp_path / files.PREVIOUS)
    assert files.load_newest(tmp_path, warnings.append)[0].name == "ckpt_epoch_1.pth"
    damage(tmp_path / "ckpt_epoch_1.pth")
    with pytest.raises(CheckpointError, match=r"only damaged ones: ckpt_last.pth .*, ckpt_epoch_1.pth"):
        files.load_newest(tmp_path, warnings.append)


def test_epochs_are_ordered_as_numbers(tmp_path: Path) -> None:
    for epoch in (2, 10, 9):
        files.save(tmp_path / f"ckpt_epoch_{epoch}.pth", content(epoch))
    assert files.load_newest(tmp_path, pytest.fail)[1]["epoch"] == 10


def test_a_checkpoint_is_found_by_path_or_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "resnet" / "digits"
    files.save(folder / "ckpt_epoch_5.pth", content(5))
    assert files.find("ckpt_epoch_5.pth", folder) == folder / "ckpt_epoch_5.pth"
    assert files.find(folder / "ckpt_epoch_5.pth", tmp_path / "other").is_file()
    with pytest.raises(CheckpointError, match=r"ckpt_epoch_7.pth: .*digits, found none. There: ckpt_epoch_5.pth"):
        files.find("ckpt_epoch_7.pth", folder)
    with pytest.raises(CheckpointError, match="expected a checkpoint to resume, found none"):
        files.open_checkpoint(None, tmp_path / "resnet" / "cifar10", pytest.fail)
    damage(folder / "ckpt_epoch_5.pth")
    with pytest.raises(CheckpointError, match="cut short"):  # what was named is not silently replaced
        files.open_checkpoint("ckpt_epoch_5.pth", folder, pytest.fail)


def test_another_network_is_refused_with_both_named() -> None:
    mine = {"arch": "resnet", "dataset": "cifar10", "num_classes": 10, "layers": 20}
    with pytest.raises(CheckpointError, match=r"expected resnet \(layers 56\), found resnet \(layers 20\)"):
        files.check_same_network(content(architecture=mine), {**mine, "layers": 56}, "x.pth")
    other = {**mine, "dataset": "cifar100", "num_classes": 100}
    with pytest.raises(CheckpointError, match=r"\(dataset cifar100, num_classes 100\), found .*\(dataset cifar10,"):
        files.check_same_network(content(architecture=mine), other, "x.pth")
    files.check_same_network(content(architecture=mine), mine, "x.pth")


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.save_last(tmp_path, content(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.save_last(tmp_path, content(2))
    monkeypatch.undo()
    assert files.load_newest(tmp_path, pytest.fail)[1]["epoch"] == 1
    assert not list(tmp_path.glob(".*"))


def test_a_write_that_fails_leaves_both_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in (1, 2):
        files.save_last(tmp_path, content(epoch))
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"what the disk made of it")
    with pytest.raises(CheckpointError, match="the disk cannot be trusted"):
        files.save_last(tmp_path, content(3))
    monkeypatch.undo()
    assert [files.load(tmp_path / name)["epoch"] for name in (files.LAST, files.PREVIOUS)] == [2, 1]
    files.remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {files.LAST, files.PREVIOUS}


SAVER = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])
from test_checkpoint import content; from mess.training.checkpoint import save_last
n = int(sys.argv[3])
while True:
    n += 1; save_last(Path(sys.argv[1]), content(n)); print(n, flush=True)
"""


def kill_while_saving(folder: Path, times: int) -> None:
    saved = 0
    for round_ in range(times):
        command = [sys.executable, "-c", SAVER, str(folder), str(Path(__file__).parent), str(saved)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.0007 * (round_ % 23))
            process.kill()
            told = [int(line) for line in process.stdout.read().split()]
        warnings: list[str] = []
        files.remove_leftovers(folder)
        assert {path.name for path in folder.iterdir()} <= {files.LAST, files.PREVIOUS}
        found = files.load_newest(folder, warnings.append)[1]["epoch"]
        assert found >= max([saved + 1, *told])
        assert warnings == []
        saved = found


def test_kill_minus_nine_while_saving_never_loses_a_run(tmp_path: Path) -> None:
    kill_while_saving(tmp_path, 3)


@pytest.mark.slow
def test_kill_minus_nine_while_saving_two_hundred_times(tmp_path: Path) -> None:
    kill_while_saving(tmp_path, 200)
