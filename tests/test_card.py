"""Model cards: valid on the hub, true to the file, nothing but text where a file says nonsense; and the upload."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from mess import codec
from mess.cli import main
from mess.codec.numbers import NumberArray
from mess.model_card import Accuracy, Card, yaml
from test_catalogues import catalogue, tiny

assert catalogue  # a fixture: a timm with one network in it


@pytest.fixture
def net(in_folder: Path) -> Path:
    torch.manual_seed(0)
    mess.compress(mess.create_model("resnet", layers=8), "net.mess", "v2", verify=False)
    return Path("net.mess")


def front(card: str) -> str:
    before, top, _ = card.split("---\n", 2)
    assert before == ""
    return top


def test_a_card_says_what_the_file_is_and_what_was_measured(
    net: Path, few_digits: None, capfd: pytest.CaptureFixture
) -> None:
    info = mess.inspect(net)
    assert main(["card", "net.mess", "--test", "digits", "--license", "mit", "-o", "README.md"]) == 0
    card = Path("README.md").read_text()
    assert f"| {info.bytes:,} bytes, {info.bits_per_weight:.2f} bits a weight |" in card
    assert info.sha256 in card
    assert 'model = mess.load("net.mess")' in card
    capfd.readouterr()
    assert main(["test", "digits", "-a", "resnet", "--layers", "8", "--ckpt", "net.mess", "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert (scores["file"], scores["bytes"], scores["samples"]) == ("net.mess", info.bytes, 90)
    assert f"Top-1 {scores['top1']:.2f} %, top-5 {scores['top5']:.2f} %" in card
    assert "on the 90 test images of digits: measured on this file" in card
    assert main(["card", "net.mess", "-o", "README.md"]) == 2
    assert "--force overwrites it" in capfd.readouterr().err
    assert main(["card", "net.mess", "--json", "--repo", "hf://me/net"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["datasets"] == ["uoft-cs/cifar10"]
    assert "license" not in told
    assert "model-index" not in told
    assert main(["card", "net.mess", "--repo", "me/net"]) == 0
    out = capfd.readouterr().out
    assert 'mess.load("hf://me/net/net.mess")' in out
    assert "It was not measured." in out


def test_the_hub_understands_a_card(net: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub, the extra `hub`, is not here")
    info = mess.inspect(net)
    info.scheme["source"] = "hf://timm/net.a1/model.safetensors@abc"
    card = Card("net.mess", info, "me/net", "apache-2.0", Accuracy("cifar10", 91.234, 99.5, 10000))
    read = hub.ModelCard(str(card)).data
    assert (read.library_name, read.license, read.pipeline_tag) == ("mess-cnn", "apache-2.0", "image-classification")
    assert (read.base_model, read.datasets) == ("timm/net.a1", ["uoft-cs/cifar10"])
    assert [(one.metric_type, one.metric_value) for one in read.eval_results] == [
        ("accuracy", 91.23),
        ("accuracy", 99.5),
    ]
    assert read.eval_results[0].dataset_type == "uoft-cs/cifar10"


def test_yaml_is_read_back_as_it_was() -> None:
    reader = pytest.importorskip("yaml", reason="PyYAML, which huggingface_hub brings, is not here")
    value = {
        "a": ["x", {"b": 1.5, "c": [True, None, "no", "1e5", "a: b", "é\n\"'"]}, "-x"],
        "d": {"e": {"f": "null"}},
        "g h": "# not a comment",
    }
    assert reader.safe_load("\n".join(yaml(value))) == value


def test_what_a_file_says_is_text_and_nothing_else(in_folder: Path, capfd: pytest.CaptureFixture) -> None:
    nasty = {
        "version": "v1 | <script>", "source": "hf://me/x/`a`\n# b", "built_by": "timm:x`\n", "mean": "[a](http://b)",
        "look": {"agreement": "x"},
    }  # fmt: skip
    entry = codec.Plain((9,), "float32", NumberArray(np.arange(9, dtype=np.float32), "float32"))
    codec.write_model("own.mess", codec.StoredModel(None, nasty, [], {"w": entry}))
    assert main(["card", "own.mess"]) == 0
    card = capfd.readouterr().out
    assert "<script>" not in card
    assert "](http://b" not in card
    assert "\n# b" not in card
    assert "timm" not in card
    assert "weights = mess.load_state_dict" in card
    assert "mess predict" not in card


def test_a_network_of_a_catalogue_is_measured_on_own_pictures(
    in_folder: Path, catalogue: ModuleType, capfd: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    about = {"built_by": "timm:tinynet_e", "num_classes": 2, "resize": 40, "crop": 32}
    mess.compress(tiny(2), "net.mess", "v2", about=about, verify=False)
    for number in range(4):
        path = Path("photos") / "val" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 60 * number, np.uint8)).save(path)
    assert main(["card", "net.mess", "--test", "photos", "-j", "0"]) == 0
    assert "on the 4 test images of photos" in capfd.readouterr().out
    assert main(["card", "net.mess", "--test", "digits"]) == 2
    assert "the 2 classes of the network in net.mess, found 10 classes" in capfd.readouterr().err


class FakeApi:
    """Keeps what it is told."""

    calls: list[tuple] = []  # noqa: RUF012
    has_card = False

    def __init__(self, **_: object) -> None:
        pass

    def create_repo(self, repo: str, **options: object) -> None:
        self.calls.append(("create", repo, options))

    def file_exists(self, repo: str, name: str) -> bool:
        return self.has_card

    def create_commit(self, repo: str, operations: list, *, commit_message: str) -> SimpleNamespace:
        self.calls.append(("commit", repo, {o.path_in_repo: o.path_or_fileobj for o in operations}))
        return SimpleNamespace(commit_url=f"https://hub/{repo}/commit/1")


def test_push_uploads_the_file_and_a_card_and_leaves_a_card_that_is_there(
    net: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub, the extra `hub`, is not here")
    monkeypatch.setattr(hub, "HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "calls", [])
    assert main(["push", "net.mess", "me/net", "--private"]) == 0
    assert "https://hub/me/net/commit/1" in capfd.readouterr().out
    (_, repo, options), (_, _, files) = FakeApi.calls
    assert (repo, options) == ("me/net", {"private": True, "exist_ok": True})
    assert files["net.mess"] == "net.mess"
    assert b'mess.load("hf://me/net/net.mess")' in files["README.md"]

    monkeypatch.setattr(FakeApi, "has_card", True)
    assert main(["push", "net.mess", "me/net"]) == 0
    assert "left as it is" in capfd.readouterr().out
    assert FakeApi.calls[-1][2].keys() == {"net.mess"}
    Path("own.md").write_text("mine")
    assert main(["push", "net.mess", "me/net", "--card", "own.md"]) == 0
    assert FakeApi.calls[-1][2]["README.md"] == b"mine"

    before = len(FakeApi.calls)
    Path("bad.mess").write_bytes(net.read_bytes()[:-1])
    for words in (["bad.mess", "me/net"], ["net.mess", "net"], ["net.mess", "me/net/x"]):
        assert main(["push", *words]) == 2
    assert len(FakeApi.calls) == before
