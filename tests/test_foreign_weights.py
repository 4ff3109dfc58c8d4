"""Weights files of others: which weights are taken, what beside them is harmless, and what the rest is called."""

from __future__ import annotations

import argparse
import enum
import io
import json
import pathlib
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mess
from format_helpers import FEW_BITS, FEW_BITS_TYPED
from mess import storing
from mess.cli import main
from mess.errors import CheckpointError, OptionError, WeightsError
from mess.foreign.nested import common_prefix, unwrapped
from mess.foreign.weights_file import load_weights

QUICKLY = ("-v", "v2", *FEW_BITS_TYPED, "--no-verify")
NET = mess.create_model("resnet", layers=8)
STATE = NET.state_dict()
AVERAGE = {n: t + 1 if t.is_floating_point() else t for n, t in STATE.items()}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


WRAPPED = prefixed("module.", AVERAGE)
AVERAGED: dict[str, tuple[object, str]] = {
    "timm": ({"state_dict": STATE, "state_dict_ema": AVERAGE}, "state_dict_ema"),
    "torchvision": ({"model": STATE, "model_ema": {"n_averaged": torch.tensor(3), **WRAPPED}}, "model_ema"),
    "BasicSR": ({"params": STATE, "params_ema": AVERAGE}, "params_ema"),
    "ours": ({"state_dict": STATE, "ema": {"steps": 3, "state_dict": AVERAGE}}, "ema.state_dict"),
    "swa": ({"swa_model": prefixed("module.", AVERAGE), "model": STATE, "epoch": torch.tensor(3)}, "swa_model"),
}  # fmt: skip


@pytest.mark.parametrize("kind", AVERAGED)
def test_averaged_weights_are_taken_and_said(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, key = AVERAGED[kind]
    path = saved(content, tmp_path / "c.pth")
    state, about = load_weights(path)
    assert list(state) == list(STATE)
    assert all(torch.equal(state[name], AVERAGE[name]) for name in STATE)
    assert about["key"] == key
    (other,) = about["other_keys"]
    plain, about = load_weights(path, other)
    assert all(torch.equal(plain[name], STATE[name]) for name in STATE)
    assert about["other_keys"] == [key]
    assert main(["compress", str(path), "-v", "v2", "--no-verify"]) == 0
    assert f"averaged weights at {key}; --key takes others: {other}" in capsys.readouterr().out
    output = ["--no-verify", "-o", str(tmp_path / "o.mess")]
    assert main(["compress", str(path), "-v", "v2", "--key", other, *output]) == 0
    assert torch.equal(mess.load_state_dict(tmp_path / "o.mess")["conv1.weight"], STATE["conv1.weight"])
    assert main(["compress", str(path), "--key", "optimizer", "--force", *output]) == 2
    assert f"weights at optimizer, found none there. There are: {key}, {other}" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    "content",
    [
        prefixed("model.", STATE), prefixed("model._orig_mod.", STATE), prefixed("module.model.", STATE),
        {"n_averaged": torch.tensor(0), **prefixed("module.", STATE)}, {"state_dict": {"model": STATE}},
        {"state_dict": prefixed("net.backbone.", STATE)}, {**STATE, "conv1.bias": None},
        {"model": {"state_dict": prefixed("_orig_mod.module.", STATE)}},
    ],
    ids=["lightning", "compiled", "ddp", "swa", "twice", "deep", "None", "compiled ddp"],
)  # fmt: skip
def test_wrappers_and_nestings_of_a_network_of_the_zoo(content: object, tmp_path: Path) -> None:
    path = saved(content, tmp_path / "c.pth")
    assert main(["compress", str(path), *QUICKLY, "-o", str(tmp_path / "c.mess")]) == 0
    back, about = storing.read_with_description(tmp_path / "c.mess")
    assert about["architecture"]["layers"] == 8
    assert list(back) == list(STATE)


def test_a_compiled_part_loses_its_mark_and_others_keep_their_names() -> None:
    zero = torch.zeros(1)
    assert list(unwrapped({"backbone._orig_mod.a": zero, "head.a": zero})) == ["backbone.a", "head.a"]
    assert list(unwrapped({"a._orig_mod.b": zero, "a.b": zero})) == ["a._orig_mod.b", "a.b"]
    assert list(unwrapped({"n_averaged": zero, "x": zero})) == ["n_averaged", "x"]
    assert common_prefix(["model.a", "model.b.c"]) == "model."
    assert common_prefix(["a", "b.c"]) == common_prefix(["a"]) == common_prefix([]) == ""


def test_a_network_of_ones_own_keeps_the_name_that_all_its_layers_share(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))

    net = Wrapped()
    path = saved(net.state_dict(), tmp_path / "c.pth")
    assert main(["compress", str(path), *QUICKLY, "-o", str(tmp_path / "c.mess")]) == 0
    mess.load_into(net, tmp_path / "c.mess")


def test_a_test_takes_the_key_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved({"state_dict": prefixed("model.", STATE), "state_dict_ema": AVERAGE}, tmp_path / "c.pth")
    assert main(["test", "digits", "-a", "resnet", "--layers", "8", "--ckpt", str(path), "--key", "state_dict"]) == 0
    assert "took the weights at state_dict; --key takes others: state_dict_ema" in " ".join(
        capsys.readouterr().out.split()
    )
    mess.compress(NET, tmp_path / "c.mess", scheme="v2", verify=False)
    flags = ["-a", "resnet", "--layers", "8", "--ckpt", str(tmp_path / "c.mess")]
    assert main(["test", "digits", *flags, "--key", "ema"]) == 2


class Colour(enum.Enum):
    RED = 1


class Settings:
    def __init__(self) -> None:
        self.rate = np.float32(0.1)


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(91.2), np.arange(3), pathlib.PurePosixPath("a/b"),
        argparse.Namespace(lr=0.1, path=pathlib.Path("x")),
        Colour.RED, Settings(), defaultdict(list), np.dtype("f4"), {Colour.RED: [np.int64(1)]},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_lies_beside_the_weights_is_passed_over(beside: object, new: bool, tmp_path: Path) -> None:
    path = saved(
        {"state_dict": STATE, "beside": beside, "acc": 0.5}, tmp_path / "c.pth", _use_new_zipfile_serialization=new
    )
    state, about = load_weights(path)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)
    assert about["acc"] == 0.5


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_nothing_of_the_file_is_run(new: bool, tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    run = f"open({str(fuse)!r}, 'w')"
    import os
    import subprocess

    for call in (
        Runs(os.mkdir, str(fuse)), Runs(eval, run), Runs(exec, run), Runs(subprocess.Popen, ["mkdir", str(fuse)]),
        Runs(getattr, pathlib.Path, "touch"), Runs(np.savetxt, str(fuse), [1.0]), Runs(torch.save, 1, str(fuse)),
    ):  # fmt: skip
        path = saved({"state_dict": STATE, "x": call}, tmp_path / "c.pth", _use_new_zipfile_serialization=new)
        try:
            load_weights(path)
        except CheckpointError as error:
            assert "could run code" in str(error)  # noqa: PT017 - both ends are right, as long as nothing runs
        assert not fuse.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (nn.Linear(2, 2), "found torch.nn.modules.linear.Linear"),
        ({"epoch": 3, "model": nn.Linear(2, 2)}, "model: expected a state dict, found an object of torch.nn.modules"),
        ({"state_dict": {"w": np.zeros(2)}}, "w: expected a tensor, found numpy"),
    ],
    ids=["whole", "nested whole", "arrays"],
)
def test_networks_saved_as_a_whole_are_named_with_the_way_to_save_them(
    content: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_weights(saved(content, tmp_path / "c.pth"))
    assert "state_dict()" in str(caught.value) or "arrays" in said or "numpy" in said


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.freeze(torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.rand(1, 3, 8, 8))), path)


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "torchscript": ("c.pth", torchscript, "a TorchScript program"),
    "onnx": ("c.onnx", lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch"), "an ONNX model"),
    "mess": ("c.pth", lambda p: mess.compress(NET, p, scheme="v2", verify=False), "a .mess file"),
    "empty": ("c.pth", lambda p: p.write_bytes(b""), "an empty file"),
    "lite": ("c.tflite", lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64)), "tf2onnx makes an ONNX model"),
    "hdf5": ("c.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "an HDF5 file"),
    "lfs": ("c.pth", lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS"),
    "html": ("c.pth", lambda p: p.write_text("<!DOCTYPE html><html></html>"), "a web page"),
    "npz": ("c.npz", lambda p: np.savez(p, a=np.zeros(2)), "an archive of other files"),
    "tensor": ("c.pth", lambda p: torch.save(torch.randn(3), p), "found Tensor"),
    "index": ("c.bin.index.json", lambda p: p.write_text('{"metadata": {}, "weight_map": {}}'), "a JSON file"),
    "folder": ("c", lambda p: p.mkdir(), "a folder"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", FILES)
def test_other_files_are_named_as_what_they_are(kind: str, tmp_path: Path) -> None:
    name, write, said = FILES[kind]
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=said):
        load_weights(tmp_path / name)


@pytest.mark.parametrize(
    "facts",
    [
        {"mean": 0.1307, "std": 0.3081}, {"mean": "imagenet"}, {"mean": [0.5, 0.5]}, {"std": [0.0, 0.1, 0.1]},
        {"mean": [float("nan")] * 3}, {"mean": torch.zeros(3)}, {"architecture": {"name": "resnet20"}},
        {"architecture": "resnet20"}, {"scheme": "x", "rounds": "many", "resize": 3, "crop": "centre"},
        {1: 2, "": 3},
    ],
)  # fmt: skip
def test_facts_of_others_that_have_not_our_form_are_left_out(facts: dict, tmp_path: Path) -> None:
    path = saved({"state_dict": STATE, **facts}, tmp_path / "c.pth")
    assert not {*load_weights(path)[1]} & {"mean", "std", "architecture", "scheme", "rounds", "resize", "crop"}
    assert main(["compress", str(path), *QUICKLY, "-o", str(tmp_path / "c.mess")]) == 0
    assert {*storing.read_with_description(tmp_path / "c.mess")[1]} == {"scheme", "architecture", "matched"}


def test_facts_of_others_in_our_form_are_taken(tmp_path: Path) -> None:
    path = saved({"state_dict": STATE, "mean": (0.5, 0.4, 0.3), "std": [1, 1, 1]}, tmp_path / "c.pth")
    about = load_weights(path)[1]
    assert (about["mean"], about["std"]) == ([0.5, 0.4, 0.3], [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mean", "nan", "0", "0"], "--mean: expected three finite numbers"),
        (["--std", "inf", "1", "1"], "--std: expected three finite numbers"),
        (["--std", "0", "0", "0"], "--std: expected three finite numbers above 0"),
    ],
)
def test_the_command_checks_mean_and_std(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = saved(STATE, tmp_path / "c.pth")
    for command in (
        ["compress", "-v", "v2", str(path)],
        ["test", "digits", "-a", "resnet", "--layers", "8", "--ckpt", str(path)],
    ):
        assert main([*command, *flags]) == 2
        assert said in capsys.readouterr().err


CONVS = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)).state_dict()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({**CONVS, "x": torch.zeros(2).to(torch.float8_e4m3fn)}, "x: expected one of .*, found float8_e4m3fn"),
        ({**CONVS, "x": torch.zeros(2).to(torch.float8_e5m2)}, "x: expected one of .*, found float8_e5m2"),
        ({**CONVS, "x": torch.zeros(2, dtype=torch.uint16)}, "x: expected one of .*, found uint16"),
        ({**CONVS, "x": nn.parameter.UninitializedParameter()}, "x: .* a lazy module"),
        ({**CONVS, 7: torch.zeros(2)}, "names of at most 1024 printable characters, found 7, int"),
        ({**CONVS, "\udc80": torch.zeros(2)}, "printable characters"),
        ({**CONVS, "a\nb": torch.zeros(2)}, "printable characters"),
        ({**CONVS, "x" * 1025: torch.zeros(2)}, "at most 1024"),
        ({**CONVS, "x": None}, "x: expected a tensor, found NoneType"),
        ([torch.zeros(2)], "expected a module, or a mapping of names to tensors, found list"),
    ],
    ids=["e4m3", "e5m2", "uint16", "lazy", "int", "surrogate", "newline", "long", "None", "list"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_no_file_can_hold_is_named(weights: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=said):
        mess.compress(weights, tmp_path / "c.mess", scheme="v2")


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_module_and_a_negative_variance_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"0\.weight: .* a lazy module that has never run"):
        mess.compress(nn.Sequential(nn.LazyConv2d(8, 3), nn.Conv2d(8, 8, 3)), tmp_path / "c.mess", scheme="v2")
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    net[1].running_var.fill_(-1e-3)
    for version in ("v2", "v4"):
        with pytest.raises(WeightsError, match=r"1\.running_var: expected variances of at least 0, found -0\.001"):
            mess.compress(net, tmp_path / "c.mess", scheme=version)


@pytest.mark.parametrize(
    "facts", [{"mean": [float("nan")] * 3}, {"x": object()}, {"x": np.float64(1) + 0j}, {"x": "\udc80"}]
)
def test_facts_that_no_file_can_hold_are_refused(facts: dict, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="about: expected finite numbers"):
        mess.compress(NET, tmp_path / "c.mess", scheme="v2", **FEW_BITS, about=facts)


def test_safetensors_of_float8_and_damaged_headers(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(8, 8, 3, 3).to(torch.float8_e4m3fn)}, tmp_path / "c.safetensors")
    assert main(["compress", str(tmp_path / "c.safetensors")]) == 2
    header = json.dumps({"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "d.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_weights(tmp_path / "d.safetensors")


def test_a_bare_pickle_is_no_weights_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pickle.dump({"a": 1}, buffer)
    (tmp_path / "c.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "c.pkl")


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_a_quantised_network_is_named_as_one(tmp_path: Path) -> None:
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear}, torch.qint8)
    with pytest.raises(WeightsError, match="quantised already: store the float one"):
        mess.compress(net, tmp_path / "net.mess")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="quantised already: store the float one"):
        mess.compress(tmp_path / "net.pth", tmp_path / "net.mess")
