"""Networks: the specification's tables number for number, torchvision's names and shapes, and what cannot be built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mess import create_model
from mess.errors import OptionError
from mess.models import ARCHITECTURES, Architecture, build, layout, recognise, resolve
from mess.models.layers import channel_shuffle

DEPTHWISE = {
    "mobilenet": [32, 64, 128, 128, 256, 256, *[512] * 6, 1024],
    "mobilenetv2": [32, 96, 144, 144, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3],
    "shufflenet": [*[50] * 4, *[100] * 8, *[200] * 4],
    "shufflenetv2": [24, *[58] * 4, *[116] * 9, *[232] * 5],
}
OPTION_A = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
TORCHVISION = {
    "mobilenet_v2": ("mobilenetv2", {}),
    **{f"resnet{n}": ("resnet", {"layers": n}) for n in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": ("resnext", {"layers": 50}),
    "resnext101_32x8d": ("resnext", {"layers": 101}),
    "wide_resnet50_2": ("wideresnet", {"layers": 50, "width_mult": 2.0}),
    "wide_resnet101_2": ("wideresnet", {"layers": 101, "width_mult": 2.0}),
    **{f"shufflenet_v2_x{w:.1f}".replace(".", "_"): ("shufflenetv2", {"width_mult": w}) for w in (0.5, 1.0, 1.5, 2.0)},
}


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
@pytest.mark.parametrize("arch", DEPTHWISE)
def test_depthwise_layers_are_those_of_the_specification(arch: str, dataset: str) -> None:
    shapes = [s for n, s, _ in layout(resolve(arch, dataset)) if len(s) == 4 and s[1] == 1]
    assert shapes == [(width, 1, 3, 3) for width in DEPTHWISE[arch]]


@pytest.mark.parametrize("layers", OPTION_A)
def test_resnet_layers_and_parameters_are_those_of_the_specification(layers: int) -> None:
    n = (layers - 2) // 6
    expected = [
        (16, 3),
        *[(16, 16)] * (2 * n),
        (32, 16),
        *[(32, 32)] * (2 * n - 1),
        (64, 32),
        *[(64, 64)] * (2 * n - 1),
    ]
    architecture = resolve("resnet", "cifar10", layers=layers)
    found = [(s[0], s[1]) for _, s, _ in layout(architecture) if s[2:] == (3, 3)]
    assert found == expected
    assert sum(p.numel() for p in build(architecture).parameters()) == OPTION_A[layers]


@pytest.mark.parametrize("name", TORCHVISION)
def test_imagenet_networks_have_torchvisions_names_and_shapes(name: str, shared: Path) -> None:
    arch, options = TORCHVISION[name]
    facts = json.loads((shared / "facts" / "torchvision_state_dicts.json").read_text())[name]
    assert {n: list(s) for n, s, _ in layout(resolve(arch, "imagenet", **options))} == facts


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "digits"])
@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_every_family_runs_forward_and_backward_on_small_images(arch: str, dataset: str) -> None:
    width = 0.5 if arch != "wideresnet" else 1.0
    model = create_model(arch, dataset, width_mult=width)
    logits = model(torch.randn(2, 3, 32, 32))
    logits.sum().backward()
    assert logits.shape == (2, 100 if dataset == "cifar100" else 10)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_imagenet_forms_run(arch: str) -> None:
    with torch.device("meta"):
        assert build(resolve(arch, "imagenet")).eval()(torch.empty(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("arch", "options", "said"),
    [
        ("resnet", {"layers": 21}, "20, 32, 44, 56, 110 or any 6n+2"),
        ("resnext", {"layers": 30}, "9n+2"),
        ("wideresnet", {"layers": 17}, "6n+4"),
        ("shufflenet", {"groups": 7}, "1, 2, 3, 4, 8"),
        ("resnext", {"groups": 3}, "8 or 32"),
        ("mobilenet", {"layers": 20}, "one depth"),
        ("mobilenet", {"groups": 4}, "no groups"),
        ("shufflenetv2", {"width_mult": 0.7}, "0.5, 1.0, 1.5, 2.0"),
        ("resnet", {"width_mult": 0.0}, "above 0"),
        ("resnt", {}, "did you mean resnet?"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_can(arch: str, options: dict, said: str) -> None:
    with pytest.raises(OptionError, match=said.replace("+", r"\+").replace("?", r"\?")):
        resolve(arch, "cifar10", **options)


@pytest.mark.parametrize(
    "change",
    [
        {"arch": 3},
        {"layers": "20"},
        {"num_classes": True},
        {"width_mult": float("nan")},
        {"width_mult": 10**400},
        {"dataset": None},
    ],
)
def test_an_architecture_from_a_hostile_file_is_refused(change: dict) -> None:
    good = resolve("resnet", "cifar10").to_dict()
    assert Architecture.from_dict(good) == resolve("resnet", "cifar10")
    with pytest.raises(OptionError):
        Architecture.from_dict({**good, **change})
    with pytest.raises(OptionError):
        Architecture.from_dict({name: value for name, value in good.items() if name not in change})


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet"])
def test_a_network_is_recognised_by_its_names_and_shapes(arch: str, dataset: str) -> None:
    architecture = resolve(arch, dataset)
    shapes = {name: shape for name, shape, _ in layout(architecture)}
    found = recognise(shapes)
    assert found is not None
    assert layout(found) == layout(architecture)  # a WideResNet-50-1 is a ResNet-50
    shapes["one.more"] = (3,)
    assert recognise(shapes) is None


def test_public_weights_are_recognised(shared: Path) -> None:
    for layers, name in ((20, "resnet20-12fca82f.th"), (56, "resnet56-4bfd9763.th")):
        state = torch.load(shared / "weights" / name, map_location="cpu", weights_only=True)["state_dict"]
        shapes = {key.removeprefix("module."): tuple(tensor.shape) for key, tensor in state.items()}
        assert recognise(shapes) == resolve("resnet", "cifar10", layers=layers)


def test_shuffling_is_the_same_in_either_order_of_memory_and_keeps_it() -> None:
    x = torch.arange(2 * 6 * 3 * 5.0).view(2, 6, 3, 5)
    plain, last = channel_shuffle(x, 2), channel_shuffle(x.contiguous(memory_format=torch.channels_last), 2)
    assert plain[0, :, 0, 0].tolist() == [x[0, c, 0, 0] for c in (0, 3, 1, 4, 2, 5)]
    assert torch.equal(plain, last)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
