"""Out of a `.mess` file: the state dict, and ONNX models that answer as the network does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mess
from mess.cli import main
from mess.export import FORMATS, export, onnx_model
from mess.graphs import model_files
from test_storing import SMALL

GOLDEN = Path(__file__).parent / "golden"
STD = [0.2, 0.3, 0.4]
SIDE = {"imagenet": 224}


def stored(path: Path, arch: str = "resnet", dataset: str = "cifar10", **options: object) -> Path:
    """Store a small network whose BatchNorm layers have seen pictures, so that its answers depend on them."""
    torch.manual_seed(0)
    model = mess.create_model(arch, dataset, **{**SMALL[arch], **options})
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 3, *[SIDE.get(dataset, 32)] * 2))
    mess.compress(model, path, "v2", scale_bits=8, offset_bits=8, rest_bits=16, about={"std": STD})
    return path


def test_weights_go_out_as_safetensors_and_pth(tmp_path: Path) -> None:
    state = mess.load_state_dict(GOLDEN / "v3a.mess")
    names = {name for name in state if name != "tied"}  # safetensors holds what shares memory once
    for ending, load in ((".safetensors", load_file), (".pth", lambda p: torch.load(p, weights_only=True))):
        written = export(GOLDEN / "v3a.mess", tmp_path / f"net{ending}")
        assert written.bytes == (tmp_path / f"net{ending}").stat().st_size
        found = load(tmp_path / f"net{ending}")
        assert names <= found.keys()
        assert all(torch.equal(found[name], state[name]) for name in names)


@pytest.mark.parametrize("arch", SMALL)
def test_onnx_answers_as_the_network_for_any_number_of_pictures(arch: str, tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    dataset = "imagenet" if arch == "mobilenetv2" else "cifar100"
    source = stored(tmp_path / "net.mess", arch, dataset)
    written = export(source, tmp_path / "net.onnx")
    assert "tolerance 1e-04" in written.notes[0]
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    side = SIDE.get(dataset, 32)
    images = torch.randn(5, 3, side, side)
    with torch.inference_mode():
        expected = mess.load(source)(images).numpy()
    depends_on_picture = expected.std(axis=0).mean() / np.abs(expected).max()
    assert depends_on_picture > 50 * onnx_model.TOLERANCE
    for size in (1, 5):
        (found,) = session.run(["logits"], {"images": images[:size].numpy()})
        np.testing.assert_allclose(found, expected[:size], rtol=0, atol=1e-4 * np.abs(expected).max())
    model = onnx.load(tmp_path / "net.onnx")
    assert [o.version for o in model.opset_import] == [onnx_model.OPSET]
    facts = {p.key: p.value for p in model.metadata_props}
    assert json.loads(facts["mess.std"]) == STD
    assert json.loads(facts["mess.mean"])[0] == {"cifar100": 0.5071, "imagenet": 0.485}[dataset]
    assert (facts["mess.network"], facts["mess.scheme"]) == (mess.load(source).architecture.slug, "v2")
    assert f"x {side} x {side}" in facts["mess.input"]
    assert str(tmp_path).encode() not in (tmp_path / "net.onnx").read_bytes()


def test_an_onnx_model_that_answers_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    source, exported = stored(tmp_path / "net.mess"), onnx_model._exported

    def another(model: torch.nn.Module, images: torch.Tensor) -> bytes:
        changed = mess.load(source)
        changed.linear.bias.data += 0.01
        return exported(changed, images)

    monkeypatch.setattr(onnx_model, "_exported", another)
    assert main(["decompress", str(source), "-o", str(tmp_path / "net.onnx")]) == 2
    assert "within 1e-04 of PyTorch's" in capsys.readouterr().err
    assert not (tmp_path / "net.onnx").exists()


BAD = [
    ("v2.mess", "net.onnx", "a network of the zoo"),
    ("v2.mess", "net.tflite", ".pth, .safetensors, .onnx, .c, .mess"),
    ("v2.mess", "net", ".pth"),
    ("missing.mess", "net.c", "missing.mess"),
    ("golden.json", "net.c", "a .mess file"),
]


@pytest.mark.parametrize(("source", "output", "said"), BAD)
def test_what_cannot_go_out_is_said_in_one_line(
    source: str, output: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if output.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    assert main(["decompress", str(GOLDEN / source), "-o", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_files, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert main(["decompress", str(GOLDEN / "v2.mess"), "-o", str(tmp_path / "net.onnx")]) == 2
    error = capsys.readouterr().err
    assert "found no onnxruntime" in error
    assert "pip install 'mess-cnn[onnx]'" in error


def test_an_existing_file_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in FORMATS:
        output = tmp_path / f"net{ending}"
        output.write_text("mine")
        assert main(["decompress", str(GOLDEN / "v2.mess"), "-o", str(output)]) == 2
        assert "--force" in capsys.readouterr().err
        assert output.read_text() == "mine"
