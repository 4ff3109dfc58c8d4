"""Weights out of TorchScript and torch.export archives: the network's own state dict, and no code run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from mess.errors import CheckpointError
from mess.foreign.weights_file import load_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit"),
    pytest.mark.filterwarnings("ignore:torch.ao"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
]


class Block(nn.Module):
    """Has a parameter, a buffer, and a tensor and a list that are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.names, self.extra = ["a"], torch.zeros(3)
        self.register_buffer("mask", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.mask[0]


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(Block(), nn.Flatten(), nn.Linear(16, 2), nn.Linear(2, 2).half().float(), nn.Linear(2, 2))
    net[4].weight = net[3].weight
    net[2].weight.data = torch.randn(16, 2).T  # not contiguous
    return net.eval()


def script(net: nn.Module, path: str) -> None:
    torch.jit.script(net).save(path)


def trace(net: nn.Module, path: str) -> None:
    torch.jit.trace(net, torch.zeros(1, 3, 4, 4)).save(path)


def export(net: nn.Module, path: str) -> None:
    """Write the archive of torch 2.8 and later as far as it is read; `torch.export` itself takes seconds."""
    dtypes, places, config = {torch.float32: 7, torch.int64: 5}, {}, {}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/byteorder", "little")
        for name, tensor in net.state_dict().items():
            place = places.setdefault(tensor.data_ptr(), f"weight_{len(places)}")
            archive.writestr(f"net/data/weights/{place}", bytes(tensor.untyped_storage()))
            meta = {"dtype": dtypes[tensor.dtype], "layout": 7, "storage_offset": {"as_int": tensor.storage_offset()}}
            meta |= {
                "sizes": [{"as_int": n} for n in tensor.shape],
                "strides": [{"as_int": n} for n in tensor.stride()],
            }
            config[name] = {"path_name": place, "use_pickle": False, "tensor_meta": meta}
        archive.writestr("net/data/weights/model_weights_config.json", json.dumps({"config": config}))


def export_of_old(net: nn.Module, path: str) -> None:
    """Write the archive of torch 2.4 as far as it is read."""
    weights = io.BytesIO()
    torch.save(net.state_dict(), weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "5.3")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", weights.getvalue())


@pytest.mark.parametrize("write", [script, pytest.param(trace, marks=pytest.mark.slow), export, export_of_old])
def test_the_state_dict_of_a_program_is_that_of_its_network(write, in_folder: Path) -> None:
    net = network()
    write(net, "net.pt")
    found, _ = load_weights("net.pt")
    own = net.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in own.items())
    assert found["3.weight"].data_ptr() == found["4.weight"].data_ptr()


@pytest.mark.slow
def test_torch_export_writes_such_an_archive(in_folder: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.zeros(1, 3, 4, 4),)), "net.pt2")
    found, _ = load_weights("net.pt2")
    assert all(torch.equal(found[name], tensor) for name, tensor in network().state_dict().items())


def repacked(source: str, target: str, changed: dict[str, bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.partition("/")[2], old.read(name)))


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


def test_what_could_run_code_is_refused_and_not_run(in_folder: Path) -> None:
    script(network(), "net.pt")
    repacked("net.pt", "evil.pt", {"data.pkl": pickle.dumps(Evil(), 2)})
    with pytest.raises(CheckpointError, match=r"which could run code; it was not run\. Save its weights"):
        load_weights("evil.pt")
    assert not Path("ran").exists()
    export_of_old(network(), "old.pt2")
    with zipfile.ZipFile("evil.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        load_weights("evil.pt2")
    assert not Path("ran").exists()


def test_tensors_never_reach_beyond_their_numbers_and_damage_is_said(in_folder: Path) -> None:
    export(network(), "net.pt2")
    with zipfile.ZipFile("net.pt2") as archive:
        name = next(name for name in archive.namelist() if name.endswith("model_weights_config.json"))
        told = json.loads(archive.read(name))
    place = name.partition("/")[2]
    first = next(iter(told["config"].values()))["tensor_meta"]
    for part, value in (("sizes", [{"as_int": 10**6}] * 4), ("storage_offset", {"as_int": 10**9}), ("dtype", 33)):
        before = first[part]
        first[part] = value
        repacked("net.pt2", "bad.pt2", {place: json.dumps(told).encode()})
        with pytest.raises(CheckpointError, match=r"torch\.export\.load"):
            load_weights("bad.pt2")
        first[part] = before
    repacked("net.pt2", "bad.pt2", {place: b"[1"})
    with pytest.raises(CheckpointError, match="a damaged one"):
        load_weights("bad.pt2")
    script(network(), "net.pt")
    repacked("net.pt", "bad.pt", {"data/0": b""})
    with pytest.raises(CheckpointError, match="a damaged one"):
        load_weights("bad.pt")
    repacked("net.pt", "big.pt", {"byteorder": b"big"})
    with pytest.raises(CheckpointError, match="big-endian"):
        load_weights("big.pt")


def test_frozen_and_quantised_programs_are_named_as_such(in_folder: Path) -> None:
    torch.jit.freeze(torch.jit.script(network())).save("frozen.pt")
    with pytest.raises(CheckpointError, match="found none with a name, as in a frozen one"):
        load_weights("frozen.pt")
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)).eval())
    script(quantised, "quantised.pt")
    with pytest.raises(CheckpointError, match="quantised"):
        load_weights("quantised.pt")
