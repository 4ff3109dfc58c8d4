"""Weights of networks in other libraries: built by name, said in the file, built again when it is read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import mess
from mess.cli import main
from mess.errors import OptionError, WeightsError
from mess.foreign.catalogues import build_named
from mess.storing.load import built_from


def tiny(num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(in_chans, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(24, num_classes),
    )  # fmt: skip
    model.pretrained_cfg = {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "input_size": (3, 32, 32),
        "crop_pct": 0.8,
    }
    return model


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A timm with one network in it."""
    timm = ModuleType("timm")
    timm.list_models = lambda: ["tinynet_e"]  # type: ignore[attr-defined]
    timm.create_model = lambda name, pretrained, **options: tiny(**options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return timm


INPUTS = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights(in_folder: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = tiny(num_classes=5).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "weights.pth")
    return state


def test_weights_of_a_catalogue_are_stored_and_built_again(catalogue: ModuleType, weights: dict) -> None:
    mess.compress("weights.pth", "net.mess", calibration=INPUTS, arch="timm:tinynet_e", verify=False)
    facts = mess.inspect("net.mess").scheme
    assert {name: facts[name] for name in ("built_by", "num_classes", "mean", "resize", "crop")} == {
        "built_by": "timm:tinynet_e", "num_classes": 5, "mean": [0.5, 0.5, 0.5], "resize": 40, "crop": 32,
    }  # fmt: skip
    model = mess.load("net.mess")
    assert model[6].weight.shape == (5, 24)
    assert (
        float((model[3].weight.detach() - weights["3.weight"]).square().sum() / weights["3.weight"].square().sum())
        < 0.1
    )
    with torch.no_grad():
        assert model(INPUTS).shape == (8, 5)


def test_the_command_takes_the_name_and_a_file_says_what_is_missing(
    catalogue: ModuleType, weights: dict, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("in.npy", INPUTS.numpy())
    command = ["compress", "weights.pth", "--arch", "timm:tinynet_e", "-o", "net.mess", "--no-verify"]
    assert main([*command, "--calibration", "in.npy"]) == 0
    assert "on 8 inputs" in capfd.readouterr().out
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(WeightsError, match=r"weights of timm:tinynet_e: .* the package timm, .*load_into"):
        mess.load("net.mess")
    assert mess.load_into(tiny(num_classes=5), "net.mess") is not None


def test_a_network_that_is_not_there_is_told_with_a_near_one(catalogue: ModuleType, weights: dict) -> None:
    with pytest.raises(OptionError, match=r"a network of timm \(did you mean tinynet_e\?\), found timm:tinynet"):
        mess.compress("weights.pth", "net.mess", arch="timm:tinynet")
    with pytest.raises(OptionError, match=r"one of timm:NAME, torchvision:NAME, package\.module:function"):
        mess.compress("weights.pth", "net.mess", arch="resnet18")


def test_a_function_builds_a_network_and_is_not_named_in_the_file(
    weights: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("of_mine")
    module.five = lambda: tiny(num_classes=5)  # type: ignore[attr-defined]
    module.text = lambda: "no network"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "of_mine", module)
    report = mess.compress("weights.pth", "net.mess", calibration=INPUTS, arch="of_mine:five", verify=False)
    assert report.look is not None
    assert b"of_mine" not in Path("net.mess").read_bytes()
    assert "built_by" not in mess.inspect("net.mess").scheme
    with pytest.raises(OptionError, match="of_mine:text to return a torch module, found str"):
        mess.compress("weights.pth", "net.mess", arch="of_mine:text")
    module.needy = lambda size: tiny(num_classes=size)  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match=r"of_mine:needy to build a network.*TypeError.*'size'"):
        mess.compress("weights.pth", "net.mess", arch="of_mine:needy")
    with pytest.raises(OptionError, match="a function none in a module of_mine"):
        mess.compress("weights.pth", "net.mess", arch="of_mine:none")


def test_weights_of_another_network_are_told_by_name(catalogue: ModuleType, in_folder: Path) -> None:
    torch.save({"features.0.weight": torch.randn(16, 3, 3, 3)}, "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: expected the model's names, found weights without 0\.bias"):
        mess.compress("other.pth", "net.mess", arch="timm:tinynet_e")


@pytest.mark.parametrize(
    "facts",
    [
        {"built_by": "os:system"}, {"built_by": "timm:hf-hub:somebody/model"}, {"built_by": "timm:../x"},
        {"built_by": 3},
        {"built_by": "timm:tinynet_e", "num_classes": "5"}, {"built_by": "timm:tinynet_e", "in_chans": 1 << 40}, {},
    ],
)  # fmt: skip
def test_a_file_builds_nothing_but_networks_of_catalogues(facts: dict, catalogue: ModuleType) -> None:
    with pytest.raises(WeightsError):
        built_from(facts, "net.mess")


def test_nothing_is_downloaded_for_a_network_of_torchvision_with_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def segmenter(*, weights: object = "trained", weights_backbone: object = "trained") -> nn.Module:
        assert weights is None
        assert weights_backbone is None
        return tiny()

    def classifier(*, weights: object = "trained", num_classes: int = 1000) -> nn.Module:
        assert weights is None
        return tiny(num_classes)

    builders = {"segmenter": segmenter, "classifier": classifier}
    torchvision = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(  # type: ignore[attr-defined]
        get_model_builder=builders.__getitem__,
        get_model=lambda name, **options: builders[name](**options),
        list_models=lambda: list(builders),
    )
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    build_named("torchvision:segmenter")
    assert build_named("torchvision:classifier", 7)[-1].out_features == 7
