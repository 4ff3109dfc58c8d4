"""Bare state dicts: the same weights are stored alike from any container, and as the module is that they come from."""

from __future__ import annotations

import random
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mess
from format_helpers import FEW_BITS
from mess import codec
from mess.cli import main
from mess.scheme.matched.shapes import find_depthwise
from mess.scheme.order import in_natural_order


def shuffled(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    names = list(weights)
    random.Random(seed).shuffle(names)
    return {name: weights[name] for name in names}


def sources(path: Path) -> list[str | None]:
    return [book.source for book in codec.read_model(path).books]


def layers(*names: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(4, 4, 3, 3) for name in names}


def test_names_are_counted_as_people_count() -> None:
    names = ["b.10.x", "b.2.x", "b.2.a", "head", "b.x", "b", "10", "9", "02", "2"]
    assert in_natural_order(names) == ["02", "2", "9", "10", "b", "b.2.a", "b.2.x", "b.10.x", "b.x", "head"]
    for seed in range(5):
        assert in_natural_order(shuffled(dict.fromkeys(names), seed)) == in_natural_order(names)


@pytest.mark.parametrize("options", [{}, {"pointwise": 2, "linear": True}], ids=["kernels", "slices"])
def test_the_order_of_a_dict_does_not_matter(options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {
        **layers(*(f"blocks.{n}.conv" for n in range(12))), "a.fc.weight": torch.randn(9, 4),
        "z.fc.weight": torch.randn(6, 9),
        "blocks.0.five.weight": torch.randn(4, 4, 5, 5), "blocks.1.five.weight": torch.randn(4, 4, 5, 5),
    }  # fmt: skip
    weights["tied.weight"] = weights["blocks.7.conv.weight"]
    made = set()
    for seed in range(3):
        mess.compress(shuffled(weights, seed), tmp_path / "net.mess", scheme="v2", verify=False, **FEW_BITS, **options)
        made.add((tmp_path / "net.mess").read_bytes())
    assert len(made) == 1
    assert sources(tmp_path / "net.mess")[0] == "blocks.0.conv.weight"


def test_every_container_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(*[nn.Conv2d(8, 8, 3) for _ in range(11)])
    net = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 8, 3), blocks=blocks, head=nn.Linear(8, 5)))
    state = net.state_dict()
    torch.save(state, tmp_path / "a.pth")
    torch.save(shuffled(state, 1), tmp_path / "b.pth")
    save_file(state, tmp_path / "c.safetensors")
    made = []
    for name in ("a.pth", "b.pth", "c.safetensors"):
        stored = tmp_path / f"{name}.mess"
        assert main(["compress", str(tmp_path / name), "-v", "v2", "--no-verify", "-o", str(stored)]) == 0
        made.append(stored.read_bytes())
        assert sources(stored) == ["stem.weight"]
    assert len(set(made)) == 1
    mess.compress(net, tmp_path / "net.mess", scheme="v2")
    assert (tmp_path / "net.mess").read_bytes() == made[0]
    assert list(mess.load_state_dict(tmp_path / "net.mess")) == in_natural_order(state)


def grey(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3), *more)


def small_mobile(channels: int) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(channels, 8, 3)]
    for _ in range(3):
        parts += [nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1)]
    return nn.Sequential(*parts, nn.Linear(8, 10))


@pytest.mark.parametrize(
    "net",
    [
        grey(), grey(nn.ConvTranspose2d(16, 1, 3)), grey(nn.ConvTranspose2d(16, 1, 3, bias=False)),
        grey(nn.ConvTranspose2d(16, 8, 3), nn.ConvTranspose2d(8, 1, 3)), small_mobile(1), small_mobile(3),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 3, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)),
        nn.Sequential(nn.Conv1d(1, 8, 9), nn.Conv1d(8, 8, 9), nn.Conv1d(8, 8, 9)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=4)),
    ],
    ids=["grey", "autoencoder", "without bias", "deeper", "grey mobile", "mobile", "rgb", "sound", "groups"],
)  # fmt: skip
def test_a_state_dict_is_stored_as_its_module_is(net: nn.Module, tmp_path: Path) -> None:
    one = mess.compress(net, tmp_path / "module.mess", scheme="v2", verify=False)
    other = mess.compress(net.state_dict(), tmp_path / "dict.mess", scheme="v2", verify=False)
    assert one.error == other.error
    assert sources(tmp_path / "module.mess") == sources(tmp_path / "dict.mess")


def test_a_single_layer_of_one_input_is_no_network_of_depthwise_ones() -> None:
    shapes = {"a": (8, 3, 3, 3), "b": (8, 1, 3, 3), "c": (8, 8, 3, 3)}
    assert find_depthwise(shapes) == (set(), set())
    assert find_depthwise({**shapes, "d": (8, 1, 3, 3)}) == ({"b", "d"}, set())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["module", "state dict"])
def test_dtypes_of_a_network_of_the_zoo_come_back(dtype: torch.dtype, form: str, tmp_path: Path) -> None:
    net = mess.create_model("resnet", layers=8).to(dtype)
    path = tmp_path / "net.mess"
    mess.compress(net if form == "module" else net.state_dict(), path, scheme="v2")
    back = mess.load_state_dict(path)
    assert {n: t.dtype for n, t in back.items()} == {n: t.dtype for n, t in net.state_dict().items()}
    loaded = mess.load(path)
    assert {t.dtype for t in loaded.parameters()} == {dtype}
    assert all(torch.equal(t, back[n]) for n, t in loaded.state_dict().items())
    assert mess.inspect(path).bytes == path.stat().st_size


def test_the_command_stores_half_weights_of_a_network_of_the_zoo(tmp_path: Path) -> None:
    net = mess.create_model("resnet", layers=8)
    state = {
        n: t.half() if n.startswith("layer2") and t.is_floating_point() else t for n, t in net.state_dict().items()
    }
    torch.save(state, tmp_path / "half.pth")
    assert main(["compress", str(tmp_path / "half.pth"), "-v", "v2", "-o", str(tmp_path / "h.mess")]) == 0
    back = mess.load_state_dict(tmp_path / "h.mess")
    assert {n: t.dtype for n, t in back.items()} == {n: t.dtype for n, t in state.items()}
    assert mess.inspect(tmp_path / "h.mess").network["arch"] == "resnet"
