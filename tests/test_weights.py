"""Public weights: a table of what there is, and networks that give the same answers under our names as under theirs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from mess.cli import down_ckpt_main, main
from mess.errors import DownloadError, WeightsError
from mess.fetch import find_weights, load_pretrained, public_weights
from mess.fetch.weights import save_weights, take_up
from mess.foreign.weights_file import load_weights
from mess.models import build, resolve
from mess.storing import read_with_description
from public_networks import MOBILENET, SHUFFLENET, forward, names_of, random_state
from test_models import TORCHVISION
from web_server import Server, serve

CHECKED = {"torchvision": "sha256", "akamaster": "sha256", "chenyaofo": "sha256", "imgclsmob": "sha1"}


def test_the_table_names_networks_that_there_are_with_all_that_is_known_of_them() -> None:
    rows = public_weights()
    for dataset, families in (
        ("imagenet", {"mobilenet", "mobilenetv2", "resnet", "resnext", "shufflenet", "shufflenetv2", "wideresnet"}),
        ("cifar10", {"mobilenetv2", "resnet", "resnext", "shufflenetv2", "wideresnet"}),
        ("cifar100", {"mobilenetv2", "resnext", "shufflenetv2", "wideresnet"}),
    ):
        assert {row.arch for row in rows if row.dataset == dataset} == families
    assert len({row.url for row in rows}) == len(rows)
    for row in rows:
        architecture = resolve(row.arch, row.dataset, layers=row.layers, width_mult=row.width_mult, groups=row.groups)
        assert (architecture.layers, architecture.groups) == (row.layers, row.groups)
        algorithm, _, digest = row.hash.partition(":")
        assert algorithm == CHECKED[row.source]
        assert digest[:8] in row.url
        assert len(row.mean) == len(row.std) == 3
        assert row.licence
        assert row.top1 is not None
        assert 30 < row.top1 < 100
        sizes = (row.resize, row.crop, row.interpolation)
        assert (
            sizes == (None,) * 3
            if row.dataset != "imagenet"
            else sizes in ((256, 224, "bilinear"), (232, 224, "bilinear"))
        )
    usual, best = (find_weights(resolve("resnet", "imagenet", layers=50), best=best) for best in (False, True))
    assert (usual.top1, best.top1) == (76.13, 80.858)
    with pytest.raises(DownloadError, match="On cifar10 there are some of mobilenetv2, resnet"):
        find_weights(resolve("mobilenet", "cifar10"))
    with pytest.raises(DownloadError, match="On digits there are none"):
        find_weights(resolve("mobilenetv2", "digits"))


@pytest.mark.parametrize("name", TORCHVISION)
def test_random_weights_under_torchvisions_names_load_strictly(name: str, shared: Path, tmp_path: Path) -> None:
    arch, options = TORCHVISION[name]
    shapes = json.loads((shared / "facts" / "torchvision_state_dicts.json").read_text())[name]
    # one number a tensor, so that the largest networks cost nothing and a mistaken name shows
    state = {
        n: torch.rand(()).expand(shape) if shape else torch.tensor(i) for i, (n, shape) in enumerate(shapes.items())
    }
    torch.save(state, tmp_path / "weights.pth")
    read, _ = load_weights(tmp_path / "weights.pth")
    with torch.device("meta"):
        model = build(resolve(arch, "imagenet", **options), initialised=False)
    model.load_state_dict(read, strict=True, assign=True)
    assert all(torch.equal(tensor, state[n]) for n, tensor in model.state_dict().items())


@pytest.mark.parametrize("arch", ["mobilenet", "shufflenet", "resnext", "wideresnet"])
def test_networks_of_imgclsmob_answer_as_under_their_own_names(arch: str) -> None:
    options = {
        "mobilenet": {"dataset": "imagenet", "width_mult": 0.25},
        "shufflenet": {"dataset": "imagenet", "width_mult": 0.5, "groups": 3},
        "resnext": {"dataset": "cifar10", "layers": 29},
        "wideresnet": {"dataset": "cifar10", "layers": 16, "width_mult": 2.0},
    }[arch]
    units = {"mobilenet": MOBILENET, "shufflenet": SHUFFLENET, "resnext": (3, 3, 3), "wideresnet": (2, 2, 2)}[arch]
    model = mess.create_model(arch, **options).eval()
    shapes = [tensor.shape for name, tensor in model.state_dict().items() if "num_batches" not in name]
    state = random_state(names_of(arch, units), shapes)
    row = next(w for w in public_weights() if w.source == "imgclsmob" and w.arch == arch)
    assert not take_up(model, state, row)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    groups = {"shufflenet": 3, "resnext": 32}.get(arch, 1)
    with torch.no_grad():
        wanted = forward(arch, state, units, images, groups)
        torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    for wrong in (dict(list(state.items())[1:]), dict(reversed(state.items()))):
        with pytest.raises(WeightsError, match="in the order of the layers"):
            take_up(model, wrong, row)


@pytest.mark.parametrize("classes", [10, 4])
def test_public_weights_are_loaded_under_our_names(
    classes: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    donor = mess.create_model("resnet", layers=20)
    kept = {"state_dict": {f"module.{name}": t for name, t in donor.state_dict().items()}}
    content = io.BytesIO()
    torch.save(kept, content, _use_new_zipfile_serialization=False)  # the old pickle, as those people publish it
    row = next(w for w in public_weights() if w.source == "akamaster" and w.layers == 20)
    server.answers["/r20.th"] = serve(content.getvalue(), cut=400_000)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    here = {**row.__dict__, "url": server.url + "/r20.th", "hash": f"sha256:{digest[:8]}"}
    for module in ("mess.fetch.weights", "mess.fetch"):
        monkeypatch.setattr(f"{module}.public_weights", lambda: [type(row)(**here)])
    monkeypatch.setenv("MESS_CACHE", str(tmp_path / "cache"))
    model = mess.create_model("resnet", layers=20, num_classes=classes)
    head = model.linear.weight.clone()
    replaced = load_pretrained(model)
    assert replaced == (classes == 4)
    assert torch.equal(model.layer3[0].conv1.weight, donor.layer3[0].conv1.weight)
    assert torch.equal(model.linear.weight, head if replaced else donor.linear.weight)
    if not replaced:
        assert torch.equal(mess.create_model("resnet", layers=20, pretrained=True).conv1.weight, donor.conv1.weight)
        output = tmp_path / "pretrained_model.pth"
        assert down_ckpt_main(["cifar10", "-a", "resnet", "--layers", "20", "-o", str(output)]) == 0
        assert torch.load(output, weights_only=True)["architecture"]["layers"] == 20
        assert main(["compress", str(output), "-v", "v2", "--no-verify"]) == 0
        _, about = read_with_description(tmp_path / "pretrained_model_v2.mess")
        assert about["mean"] == pytest.approx(row.mean)  # what the network's input has to look like goes with it
        assert down_ckpt_main(["--all", "-o", str(tmp_path / "all")]) == 0
        assert [p.name for p in (tmp_path / "all").iterdir()] == ["cifar10_r20.pth"]
        assert len(server.seen) == 3  # once, in three pieces


def test_the_specifications_script_fetches_all_there_are() -> None:
    script = Path(__file__).parents[1] / "down_ckpt_all.sh"
    printed = subprocess.run([script], env={**os.environ, "PYTHON": "echo"}, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [str(script.with_name("down_ckpt.py")), "--all", "-o", "pretrained"]


def test_own_pictures_start_from_public_weights_with_a_head_of_their_own(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for split, label in ((s, c) for s in ("train", "val") for c in ("cat", "dog", "owl")):
        (in_folder / "own" / split / label).mkdir(parents=True)
        for i in range(3):
            pixels = random.integers(0, 256, (50, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(in_folder / "own" / split / label / f"{i}.jpg")
    torch.manual_seed(0)
    donor = mess.create_model("mobilenetv2", "imagenet")
    row = replace(find_weights(resolve("mobilenetv2", "imagenet")), mean=(0.5, 0.4, 0.3), resize=36, crop=32)
    monkeypatch.setenv("MESS_CACHE", str(in_folder / "cache"))
    (in_folder / "cache").mkdir()
    torch.save(donor.state_dict(), in_folder / "cache" / row.file)
    digest = hashlib.sha256((in_folder / "cache" / row.file).read_bytes()).hexdigest()
    monkeypatch.setattr("mess.fetch.weights.public_weights", lambda: [replace(row, hash=f"sha256:{digest}")])
    flags = ["own", "-a", "mobilenetv2", "-b", "4", "-j", "0"]
    assert main(["train", *flags, "--pretrained", "--epochs", "1", "--lr", "1e-12"]) == 0
    said = capsys.readouterr().out
    assert "BSD-3-Clause" in said
    assert "a new last layer, for 3 classes" in said
    best = in_folder / "checkpoint" / "mobilenetv2" / "own" / "ckpt_best.pth"
    state, about = load_weights(best)
    wanted = donor.features[0][0].weight
    assert (state["features.0.0.weight"] - wanted).norm() < 0.01 * wanted.norm()  # a fresh network's are elsewhere
    assert state["classifier.1.weight"].shape == (3, 1280)
    # what the weights want of their input is kept beside them, for tests and for going on
    assert (about["mean"], about["resize"], about["crop"]) == ([0.5, 0.4, 0.3], 36, 32)
    assert main(["test", *flags, "--ckpt", "ckpt_best.pth"]) == 0
    assert "9 images" in capsys.readouterr().out


def test_what_is_saved_for_testing_says_what_its_input_looks_like(tmp_path: Path) -> None:
    row = next(w for w in public_weights() if w.arch == "shufflenetv2" and w.resize == 232)
    model = mess.create_model("shufflenetv2", "imagenet", width_mult=row.width_mult)
    save_weights(model, row, tmp_path / "weights.pth")
    state, about = load_weights(tmp_path / "weights.pth")
    assert {name: about[name] for name in ("mean", "std", "resize", "crop")} == {
        "mean": list(row.mean), "std": list(row.std), "resize": 232, "crop": 224,
    }  # fmt: skip
    assert state.keys() == model.state_dict().keys()
