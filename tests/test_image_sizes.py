"""How a network takes images is said once, kept in its file, and read alike by all that shows it images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mess
from mess import codec
from mess.cli import main
from mess.errors import FormatError, OptionError
from mess.export.about import facts_of
from mess.image_inputs import InputView, input_view
from mess.models.described import layout_of
from mess.recipes import DataChoice, data_of
from mess.recipes.predicting import open_classifier
from mess.storing.calibration import cut_for
from mess.storing.load import read_description
from mess.storing.sources import read_source

SMALL = ["-a", "mobilenetv2", "--width-mult", "0.25", "-j", "0"]
TRAINED = [*SMALL, "-b", "4", "--epochs", "1", "--lr", "0.01"]
COLOURS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
SAID = {"resize": 40, "crop": 24}


def loss_of(capsys: pytest.CaptureFixture[str], *words: str) -> float:
    capsys.readouterr()
    assert main(["test", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["loss"]


def as_once(path: Path) -> Path:
    """Write a file anew with its sizes where they lay before: with the scheme."""
    stored = codec.read_model(path, layout=layout_of)
    sizes = {name: stored.network[name] for name in SAID}
    network = {name: value for name, value in stored.network.items() if name not in sizes}
    old = path.with_name("old.mess")
    codec.write_model(old, replace(stored, network=network, scheme={**stored.scheme, **sizes}), layout=layout_of)
    return old


def network(dataset: str = "imagenet") -> torch.nn.Module:
    torch.manual_seed(0)
    return mess.create_model("mobilenetv2", dataset, width_mult=0.25)


def test_a_file_is_tested_and_retrained_on_images_as_its_checkpoint_was(
    in_folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = str(pictures)
    sizes = ["--resize", "40", "--crop", "24"]
    assert main(["train", own, *TRAINED, *sizes, "-N", "-v", "v2", "-s", "1"]) == 0
    folder = Path("checkpoint/mobilenetv2/own")
    wanted = loss_of(capsys, own, *SMALL, "--ckpt", "ckpt_best.pth")
    file = folder / "ckpt_best_v2.mess"
    for path in (file, as_once(file)):
        assert loss_of(capsys, own, *SMALL, "--ckpt", str(path)) == pytest.approx(wanted, rel=1e-5)
    assert loss_of(capsys, own, *SMALL, "--ckpt", str(file), "--resize", "24") != pytest.approx(wanted, rel=1e-5)
    kept = file.rename("first.mess")
    assert main(["train", own, *TRAINED, "-T", "-v", "v2", "--ckpt", str(kept)]) == 0
    for name, version in (("first.mess", ""), (str(folder / "ckpt_best_v2_r1.mess"), "_r1")):
        assert {part: mess.inspect(name).network[part] for part in SAID} == SAID, version


@pytest.mark.parametrize("old", [False, True])
def test_all_that_shows_images_to_a_network_takes_them_as_its_file_says(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.mess"
    mess.compress(network(), path, "v2", about={**COLOURS, **SAID}, verify=False)
    assert {part: mess.inspect(path).network[part] for part in SAID} == SAID
    path = as_once(path) if old else path
    wanted = InputView(40, 24, *COLOURS.values())
    view = open_classifier(path)[1]
    assert (view.resize, view.crop, view.mean, view.std) == (40, 24, *COLOURS.values())
    choice = data_of(DataChoice("imagenet"), read_description(path))
    assert (choice.resize, choice.crop, tuple(choice.mean)) == (40, 24, wanted.mean)
    weights, architecture, facts, _ = read_source(path, None, None, None)
    assert cut_for(weights, architecture, facts, None).__self__ == wanted
    info = mess.inspect(path)
    assert facts_of(info.network, info.scheme)["image_size"] == 24
    mess.compress(path, tmp_path / "again.mess", "v2", verify=False)
    assert {part: mess.inspect(tmp_path / "again.mess").network[part] for part in SAID} == SAID


def test_sizes_of_public_weights_travel_into_their_file(tmp_path: Path) -> None:
    model = network()
    saved = {"architecture": model.architecture.to_dict(), "state_dict": model.state_dict(), "resize": 232, "crop": 224}
    torch.save(saved, tmp_path / "pub.pth")
    mess.compress(tmp_path / "pub.pth", tmp_path / "python.mess", "v2", verify=False)
    assert (
        main(["compress", str(tmp_path / "pub.pth"), "-v", "v2", "--no-verify", "-o", str(tmp_path / "shell.mess")])
        == 0
    )
    for name in ("python", "shell"):
        choice = data_of(DataChoice("imagenet"), read_description(tmp_path / f"{name}.mess"))
        assert (choice.resize, choice.crop) == (232, 224)


def test_a_network_of_others_keeps_its_sizes_when_its_file_is_stored_again(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
    mess.compress(model, tmp_path / "a.mess", "v2", about={**COLOURS, **SAID}, verify=False)
    mess.compress(tmp_path / "a.mess", tmp_path / "b.mess", "v2", verify=False)
    for name in "ab":
        told = read_description(tmp_path / f"{name}.mess")
        assert {part: told[part] for part in SAID} == SAID


@pytest.mark.parametrize(
    ("facts", "dataset", "typed", "side", "sizes"),
    [
        ({}, "imagenet", {}, None, (256, 224)),
        ({}, "a folder", {}, None, (256, 224)),
        ({}, "cifar10", {}, None, (32, 32)),
        ({"crop": 64}, "a folder", {}, None, (73, 64)),
        ({"resize": 232, "crop": 224}, "imagenet", {"resize": 240}, None, (240, 224)),
        ({"resize": 40}, "cifar10", {}, None, (40, 32)),
        ({"resize": 232, "crop": 224}, "imagenet", {}, 192, (192, 192)),
        ({"resize": 232, "crop": 224}, "imagenet", {}, 224, (232, 224)),
        (COLOURS, None, {}, 48, (48, 48)),
    ],
)
def test_what_is_typed_comes_before_the_file_and_that_before_the_dataset(
    facts: dict[str, Any], dataset: str | None, typed: dict[str, int], side: int | None, sizes: tuple[int, int]
) -> None:
    view = input_view(facts, dataset, typed, side=side)
    assert (view.resize, view.crop) == sizes


def test_images_in_memory_have_no_sizes_and_one_size_says_the_other() -> None:
    choice = data_of(DataChoice("digits", resize=80, crop=64), {"resize": 40})
    assert choice.sizes == {}
    assert data_of(DataChoice("own"), {}).sizes == {}
    assert data_of(DataChoice("own", crop=64), {}).sizes == {"resize": 73, "crop": 64}


@pytest.mark.parametrize("crop", ["large", 0, -3, 2.5, True, 1 << 15, [24]])
def test_sizes_that_cannot_be_are_refused_when_they_are_said_and_when_they_are_read(crop: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"crop: expected a whole number of pixels from 1 to 16,384, found"):
        mess.compress(network(), tmp_path / "net.mess", "v2", about={"crop": crop}, verify=False)
    assert not (tmp_path / "net.mess").exists()
    mess.compress(network(), tmp_path / "net.mess", "v2", verify=False)
    stored = codec.read_model(tmp_path / "net.mess", layout=layout_of)
    codec.write_model(
        tmp_path / "bad.mess", replace(stored, network={**stored.network, "crop": crop}), layout=layout_of
    )
    with pytest.raises(FormatError, match=r"bad\.mess: expected mean, std and sizes of images, found crop: "):
        open_classifier(tmp_path / "bad.mess")
    with pytest.raises(FormatError, match="mean, std and sizes"):
        facts_of({**stored.network, "crop": crop}, {})
    mess.load(tmp_path / "bad.mess")  # its weights are whole
