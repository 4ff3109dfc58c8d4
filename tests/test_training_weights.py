"""Weights from the files people have them in."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mess.errors import CheckpointError
from mess.foreign.nested import unwrapped
from mess.foreign.weights_file import load_weights
from mess.training.checkpoint import save

SHARED = Path(__file__).parents[2] / "shared"
STATE = OrderedDict({"conv1.weight": torch.randn(2, 3, 3, 3), "bn1.num_batches_tracked": torch.tensor(4)})


def same(state: dict[str, Tensor]) -> bool:
    return list(state) == list(STATE) and all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "kept",
    [
        STATE,
        {"state_dict": STATE, "best_prec1": 91.7},
        {"model": STATE, "epoch": 3},
        {"net": {f"module.{name}": tensor for name, tensor in STATE.items()}, "acc": 95.0},
        {f"_orig_mod.module.{name}": tensor for name, tensor in STATE.items()},
        {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
    ],
    ids=["bare", "state_dict", "model", "net, DDP", "compiled DDP", "DDP of compiled"],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_all_the_ways_people_save(tmp_path: Path, kept: dict[str, Any], new: bool) -> None:
    path = tmp_path / "weights.th"
    torch.save(kept, path, _use_new_zipfile_serialization=new)
    assert same(load_weights(path)[0])


def test_what_else_the_file_says(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "best_prec1": 91.7, "optimizer": {}}, tmp_path / "x.pth")
    assert load_weights(tmp_path / "x.pth")[1] == {"best_prec1": 91.7, "key": "state_dict", "other_keys": []}


def test_a_prefix_is_removed_only_where_all_names_have_it() -> None:
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert list(unwrapped(mixed)) == ["module.a", "b"]
    assert list(unwrapped({"module.emodule.a": torch.zeros(1)})) == ["emodule.a"]


def test_safetensors(tmp_path: Path) -> None:
    save_file(dict(STATE), tmp_path / "x.safetensors")
    assert set(load_weights(tmp_path / "x.safetensors")[0]) == set(STATE)
    damaged = (tmp_path / "x.safetensors").read_bytes()[:-3]
    (tmp_path / "y.safetensors").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="a damaged one"):
        load_weights(tmp_path / "y.safetensors")


def test_a_checkpoint_with_averaged_weights_gives_those(tmp_path: Path) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
    checkpoint = {"format": 1, "state_dict": other, "ema": {"steps": 2, "state_dict": dict(STATE)}, "best_top1": 9.5}
    save(tmp_path / "x.pth", {**checkpoint, "architecture": {"arch": "resnet"}})
    state, about = load_weights(tmp_path / "x.pth")
    assert same(state)
    taken = {"key": "ema.state_dict", "other_keys": ["state_dict"]}
    assert about == {"best_top1": 9.5, "architecture": {"arch": "resnet"}, **taken}


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([1, 2], "expected a state dict, found list"),
        ({}, "expected a state dict, found an empty one"),
        ({"weight": torch.zeros(1), "name": "x"}, "name: expected a tensor, found str. It is no state dict"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, kept: object, message: str) -> None:
    torch.save(kept, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello world, no pickle", bytes(100), b"\x80\x02."])
def test_files_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth: expected"):
        load_weights(tmp_path / "x.pth")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a file, found nothing of that name"):
        load_weights(tmp_path / "x.pth")


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="needs the public weights in ../shared/weights")
def test_public_weights() -> None:
    state, about = load_weights(SHARED / "weights" / "resnet20-12fca82f.th")
    assert next(iter(state)) == "conv1.weight"
    assert state["linear.weight"].shape == (10, 64)
    assert about["best_prec1"] > 90
