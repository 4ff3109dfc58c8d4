"""Files of the Hugging Face hub, from a stand-in on loopback: which file is meant, its network, the cache, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mess
from hub_server import COMMIT, HubServer
from mess import hub
from mess.cli import main
from mess.errors import DownloadError, OptionError
from mess.hub.networks import class_names, input_of, network_of
from test_catalogues import INPUTS, tiny

CONFIG = {
    "architecture": "tinynet_e",
    "num_classes": 5,
    "pretrained_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "input_size": [3, 32, 32], "crop_pct": 0.8},
    "label_names": ["n1", "n2", "n3", "n4", "n5"],
    "label_descriptions": {"n1": "tench", "n2": "shark"},
}
NAMES = ["tench", "shark", "n3", "n4", "n5"]


@pytest.fixture
def served(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub, and an empty cache in the folder one stands in."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub, the extra `hub`, is not here")
    made = HubServer()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", made.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(in_folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return tiny(num_classes=5).state_dict()


def saved(state: dict[str, torch.Tensor]) -> bytes:
    torch.save(state, "saved.pth")
    return Path("saved.pth").read_bytes()


def test_a_repository_is_stored_and_the_stored_one_read_from_the_hub(
    served: HubServer, state: dict, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    served.files["me/tiny"] = {"README.md": b"", "pytorch_model.bin": saved(state), "b.pth": b"x"}
    assert main(["compress", "hf://me/tiny", "-v", "v2", "--no-verify"]) == 0
    assert "hf://me/tiny: pytorch_model.bin, in place of b.pth" in capfd.readouterr().out
    source = mess.inspect("tiny_v2.mess").scheme["source"]
    assert source == f"hf://me/tiny/pytorch_model.bin@{COMMIT}"
    assert "Bearer hf_secret" in served.tokens

    served.files["me/small"] = {"net.mess": Path("tiny_v2.mess").read_bytes()}
    wanted = mess.load_state_dict("tiny_v2.mess")
    for address in ("hf://me/small", "hf://me/small/net.mess", f"hf://me/small/net.mess@{COMMIT}"):
        read = mess.load_state_dict(address)
        assert all(torch.equal(read[name], wanted[name]) for name in state)
    assert main(["verify", "hf://me/small@main"]) == 0
    assert main(["inspect", "hf://me/small", "--json"]) == 0
    assert main(["decompress", "hf://me/small", "-o", "out.safetensors"]) == 0
    assert main(["diff", "hf://me/tiny", "hf://me/small/net.mess"]) == 0

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(served.seen)
    assert mess.load_state_dict("hf://me/small").keys() == wanted.keys()
    assert hub.fetch("hf://me/small").why.endswith("net.mess (of what is in the cache)")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        mess.load("hf://me/other")
    assert len(served.seen) == asked


def test_a_network_of_timm_is_built_as_its_config_says(
    served: HubServer, state: dict, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    served.files["timm/tiny"] = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": saved(state)}
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(["compress", "hf://timm/tiny", "-v", "v2", "--no-verify", "-o", "plain.mess"]) == 0
    assert "config.json says timm:tinynet_e: `pip install 'mess-cnn[timm]'`" in capfd.readouterr().out
    assert "built_by" not in mess.inspect("plain.mess").scheme

    timm = ModuleType("timm")
    timm.list_models = lambda: ["tinynet_e"]  # type: ignore[attr-defined]
    timm.create_model = lambda name, pretrained, **options: tiny(**options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    report = mess.compress("hf://timm/tiny", "net.mess", calibration=INPUTS, verify=False)
    assert report.look is not None
    facts = mess.inspect("net.mess").scheme
    assert (facts["built_by"], facts["num_classes"], facts["classes"]) == ("timm:tinynet_e", 5, NAMES)
    assert (facts["mean"], facts["crop"], facts["resize"]) == ([0.4, 0.5, 0.6], 32, 40)

    other = json.dumps(CONFIG | {"architecture": "other"}).encode()
    served.files["timm/other"] = {**served.files["timm/tiny"], "config.json": other}
    assert main(["compress", "hf://timm/other", "-v", "v2", "--no-verify"]) == 0
    assert "config.json says timm:other, which was not built: " in capfd.readouterr().out


def test_which_file_is_meant_is_said_and_never_guessed(served: HubServer) -> None:
    served.files["me/two"] = {"a.pth": b"a", "b.onnx": b"b"}
    served.files["me/one"] = {"x/weights.th": b"w", "README.md": b"r", "old.mess": b"m"}
    served.files["me/stored"] = {"net.mess": b"m", "model.safetensors": b"s"}
    served.files["me/none"] = {"README.md": b""}
    assert hub.fetch("hf://me/one").path.read_bytes() == b"w"
    assert hub.fetch("hf://me/stored").path.read_bytes() == b"s"
    assert hub.local("hf://me/stored").read_bytes() == b"m"
    assert hub.fetch("hf://me/two/b.onnx").address == hub.Address("me/two", "b.onnx", COMMIT)
    for address, said in {
        "hf://me/two": r"one file that can be meant, found a\.pth, b\.onnx\. Name one: hf://me/two/a\.pth",
        "hf://me/none": r"a file that ends in .*\.mess, found README\.md",
        "hf://me/two/c.pth": "a file in the repository, found no c.pth",
        "hf://me/two@v2": "a revision of the repository, found v2",
        "hf://me/nobody": "a repository on the hub, .*hf auth login",
    }.items():
        with pytest.raises(DownloadError, match=said):
            hub.fetch(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://me/net", ("me/net", None, None)),
        (Path("hf://me/net/a/b.pth"), ("me/net", "a/b.pth", None)),
        ("hf://me/net.v1/b.pth@refs/pr/1", ("me/net.v1", "b.pth", "refs/pr/1")),
        ("hf://me/net@v1/b.pth", ("me/net", "b.pth", "v1")),
    ],
)
def test_addresses(address: str | Path, parts: tuple) -> None:
    found = hub.parse(address)
    assert (found.repo, found.file, found.revision) == parts
    assert hub.is_hub(address)
    assert not hub.is_hub("net.mess")


@pytest.mark.parametrize("wrong", ["hf://net", "hf://me/net/../x", "hf://datasets/me/x", "hf://me/n@a/f@b", "hf://"])
def test_other_addresses_are_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match=f"^{wrong}: expected"):
        hub.parse(wrong)


def test_what_a_config_says_wrongly_counts_as_not_said() -> None:
    assert network_of(CONFIG) == "timm:tinynet_e"
    assert class_names({"id2label": {"1": "b", "0": "a"}}) == ["a", "b"]
    for wrong in ({"mean": "abc"}, {"std": [0, 1, 1]}, {"input_size": [3, -1, 2]}, {"mean": [float("nan")] * 3}, []):
        assert input_of({"pretrained_cfg": wrong}) == {}
    assert network_of({"architecture": ["x"], "pretrained_cfg": {}}) is None
    assert class_names({"id2label": {"x": "b"}}) == class_names({"label_names": [1]}) == []


def test_without_the_package_and_without_a_hub_one_line_says_so(in_folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(in_folder)}
    expected = {"huggingface_hub": "found none. pip install 'mess-cnn[hub]'", "torch": "HF_HUB_OFFLINE is set"}
    for missing, said in expected.items():
        if missing == "torch" and find_spec("huggingface_hub") is None:
            continue
        code = (
            f"import sys; sys.modules[{missing!r}] = None; from mess.cli import main; main(['inspect', 'hf://me/net'])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert run.stderr.startswith("mess: hf://")
        assert said in run.stderr
        assert run.stderr.count("\n") == 1
