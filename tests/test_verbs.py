"""Verbs for a file that is there: check it, compare it, ask it what it sees."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from mess import codec
from mess.class_folders import compact
from mess.cli import main
from mess.codec.numbers import NumberArray
from mess.data.names import NAMES as NAMES_OF
from mess.data.names import imagenet_names
from mess.data.views import centre_view
from mess.recipes.sources import open_network
from mess.storing.differences import differences

NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@pytest.fixture
def network(in_folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = mess.create_model("resnet", layers=8)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features)
            layer.running_var = torch.rand(layer.num_features) + 0.5
    torch.save(model.state_dict(), "weights.pth")
    mess.compress(model, "net.mess", "v2", verify=False)
    Path("photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{number}.png")
    return model.eval()


def test_verify_decodes_whole_files_and_its_exit_code_says_if_one_is_damaged(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    assert main(["verify", "net.mess"]) == 0
    assert "ok  net.mess" in capfd.readouterr().out
    content = Path("net.mess").read_bytes()
    Path("bad.mess").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["verify", ".", "--json"]) == 2
    out, err = capfd.readouterr()
    bad, good = json.loads(out)
    assert "SHA-256" in bad["error"]
    assert good["file"].endswith("net.mess")
    assert good["tensors"] == len(network.state_dict())
    assert "failed" in err


def test_verify_finds_numbers_that_break_the_format_behind_checksums_that_are_right(
    in_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    one = NumberArray(np.ones(2, np.float32), "float32")
    entries = {
        "a": codec.Plain((1, 9), "float32", NumberArray(np.arange(9, dtype=np.float32), "float32")),
        "b": codec.Matched((2, 9), "float32", 0, np.array([0, 7]), one, one),
    }
    codec.write_model("net.mess", codec.StoredModel(None, {}, [codec.Codebook("a", 9, 9, True)], entries))
    assert main(["inspect", "net.mess"]) == 0
    capfd.readouterr()
    assert main(["verify", "net.mess"]) == 2
    assert "indices below 1, found 7" in capfd.readouterr().out


def test_diff_says_what_moved_and_takes_batch_norm_as_what_it_computes(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    found = differences("weights.pth", "net.mess")
    assert found.bytes == (Path("weights.pth").stat().st_size, Path("net.mess").stat().st_size)
    moved = {tensor.name for tensor in found.tensors if tensor.error}
    assert moved == {name for name in network.state_dict() if name.startswith("layer") and "conv" in name}
    assert found.only == ((), ())
    assert differences("net.mess", "net.mess").error == 0
    assert main(["diff", "weights.pth", "net.mess"]) == 0
    out = capfd.readouterr().out
    assert "layer3.0.conv2.weight" in out
    assert "bn1" not in out
    assert main(["diff", "weights.pth", "net.mess", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["bytes"] == list(found.bytes)


def test_diff_refuses_other_networks_and_names_what_one_has_alone(
    in_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    w, x = torch.ones(2, 3), torch.ones(1)
    for name, state in {"a": {"w": w, "x": x}, "b": {"w": w.T}, "c": {"v": x}, "d": {"w": w, "y": x}}.items():
        torch.save(state, f"{name}.pth")
    assert main(["diff", "a.pth", "b.pth"]) == 2
    assert "b.pth: w: expected shape (2, 3), found (3, 2)" in capfd.readouterr().err
    assert main(["diff", "a.pth", "c.pth"]) == 2
    assert main(["diff", "a.pth", "d.pth"]) == 0
    out = capfd.readouterr().out
    assert "only in a.pth: x" in out
    assert "only in d.pth: y" in out


def test_a_mess_file_is_known_by_its_first_bytes_whatever_its_name_is(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    Path("net.mess").rename("net.bin")
    Path("weights.pth").rename("weights.mess")
    assert main(["diff", "weights.mess", "net.bin", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["only"] == [[], []]
    stored = mess.load_state_dict("net.bin")
    for path, expected in (("net.bin", stored), ("weights.mess", network.state_dict())):
        model, about = open_network(Path(path), network.architecture)
        assert torch.equal(model.conv1.weight, expected["conv1.weight"])
        assert ("scheme" in about) is (path == "net.bin")


def test_predict_says_classes_by_name_as_the_network_does(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    assert main(["predict", "net.mess", "photos", "--json", "--top", "2"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [Path(row["picture"]).name for row in told] == ["0.png", "1.png", "2.png"]
    model = mess.load("net.mess")
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    for row in told:
        seen = centre_view(np.array(Image.open(row["picture"])), 32, 32).float() / 255
        with torch.no_grad():
            chances = model(((seen - mean) / std)[None]).softmax(1)[0]
        assert [place["class"] for place in row["top"]] == chances.topk(2).indices.tolist()
        assert row["top"][0]["probability"] == pytest.approx(float(chances.max()), abs=1e-5)
        assert row["top"][0]["name"] == NAMES.split()[row["top"][0]["class"]]


def test_predict_writes_tables_takes_names_and_refuses_what_is_no_picture(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    Path("names.txt").write_text("\n".join(f"kind {n}" for n in range(10)))
    assert main(["predict", "net.mess", "photos", "--csv", "--classes", "names.txt"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert len(rows) == 15
    assert rows[0]["name"] == f"kind {rows[0]['class']}"
    assert main(["predict", "net.mess", "photos/0.png"]) == 0
    assert "%" in capfd.readouterr().out
    for wrong, said in (("names.txt", "one that cannot be read"), ("nowhere.png", "an image, or a folder")):
        assert main(["predict", "net.mess", wrong]) == 2
        assert said in capfd.readouterr().err


def test_predict_names_the_classes_of_imagenet_as_an_installed_library_does(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    mess.compress(mess.create_model("mobilenetv2", dataset="imagenet", width_mult=0.25), "net.mess", "v2", verify=False)
    Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save("cat.png")
    for library in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    assert imagenet_names()[0] == "n01440764"
    vision, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    categories = [f"animal {place}" for place in range(1000)]
    models.ResNet18_Weights = SimpleNamespace(DEFAULT=SimpleNamespace(meta={"categories": categories}))
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert imagenet_names()[999] == "animal 999"
    timm, data = ModuleType("timm"), ModuleType("timm.data")
    data.ImageNetInfo = lambda: SimpleNamespace(num_classes=lambda: 1000, index_to_description="beast {}".format)
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    assert main(["predict", "net.mess", "cat.png", "--json", "--top", "1"]) == 0
    top = json.loads(capfd.readouterr().out)[0]["top"][0]
    assert top["name"] == f"beast {top['class']}"


def test_predict_takes_names_from_the_folders_it_was_trained_on(
    network: torch.nn.Module, capfd: pytest.CaptureFixture
) -> None:
    kinds = [f"a kind of thing with a long name, number {n}" for n in range(10)]
    about = {"classes": compact(kinds)}
    mess.compress(network, "own.mess", "v2", about=about, verify=False)
    for name in kinds:
        Path("own/train", name).mkdir(parents=True)
    words = ["predict", "own.mess", "photos/0.png", "--json", "--top", "1", "--classes"]
    assert main([*words, "own"]) == 0
    top = json.loads(capfd.readouterr().out)[0]["top"][0]
    assert top["name"] == kinds[top["class"]]
    Path("own/train", "another").mkdir()
    assert main([*words, "own"]) == 2
    assert "own: expected the classes that the network of own.mess was trained on" in capfd.readouterr().err
    assert main([*words, "photos"]) == 2


def test_names_of_the_usual_datasets_are_as_many_as_their_classes() -> None:
    assert {name: len(names) for name, names in NAMES_OF.items()} == {"cifar10": 10, "cifar100": 100, "digits": 10}
    assert list(NAMES_OF["cifar100"]) == sorted(NAMES_OF["cifar100"])


def test_where_nothing_is_stored_by_reference_no_empty_table_says_so(
    in_folder: Path, capfd: pytest.CaptureFixture
) -> None:
    torch.save({"bias": torch.ones(9)}, "vectors.pth")
    assert main(["compress", "vectors.pth", "--no-verify"]) == 0
    out = capfd.readouterr().out
    assert "by itself" in out
    assert "stored by reference" not in out
