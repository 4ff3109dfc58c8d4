"""Networks that come without inputs: images are made up for those that remember some, the others are not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mess
from mess.errors import OptionError
from test_networks_of_others import IMAGES, Through, plain


def only_grey(net: nn.Module, x: Tensor) -> Tensor:
    assert x.shape[1] == 1, "one channel"
    return net(x.expand(-1, 3, -1, -1))


def test_networks_that_take_no_usual_images_are_rounded_without_a_look_and_that_is_said(tmp_path: Path) -> None:
    remembering = nn.Sequential(Through(only_grey), nn.Unflatten(1, (4, 1, 1)), nn.BatchNorm2d(4)).eval()
    assert "no images of the usual sizes" in mess.compress(remembering, tmp_path / "net.mess").unseen
    assert "no BatchNorm layer remembers" in mess.compress(plain(), tmp_path / "net.mess").unseen
    assert "weights alone" in mess.compress(plain().state_dict(), tmp_path / "net.mess").unseen


def of_shape(*shape: int) -> nn.Module:
    """Return a network that takes inputs of this shape alone."""
    torch.manual_seed(0)
    if len(shape) == 3:
        taken: list[nn.Module] = [nn.Conv2d(shape[0], 2, 3), nn.BatchNorm2d(2), nn.ReLU()]
    else:
        taken = [nn.Conv1d(shape[0], 8, 3), nn.BatchNorm1d(8), nn.ReLU()]
    inner = nn.Sequential(*taken, nn.Flatten()).eval()
    return nn.Sequential(inner, nn.Linear(inner(torch.zeros(1, *shape)).shape[1], 4)).eval()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 24, 40), (2, 50)], ids=str)
def test_a_network_without_images_is_looked_at_in_the_shape_that_is_named(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    report = mess.compress(of_shape(*shape), tmp_path / "net.mess", input_shape=shape, verify=False)
    if len(shape) != 3:
        assert "no images of the usual sizes" in report.unseen
        return
    assert report.unseen == ""
    assert report.look is not None
    assert report.look.made_up
    assert report.look.divergence < 0.01


def test_a_shape_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="input_shape: expected a shape of one input that the network takes"):
        mess.compress(of_shape(1, 28, 28), tmp_path / "net.mess", input_shape=(1, 20, 20))
    with pytest.raises(OptionError, match=r"input_shape: expected \(3, 12, 12\), of the inputs given"):
        mess.compress(plain(), tmp_path / "net.mess", calibration=IMAGES, input_shape=(3, 32, 32))
    with pytest.raises(OptionError, match="input_shape: expected a version that looks at inputs"):
        mess.compress(plain(), tmp_path / "net.mess", "v2", input_shape=(3, 12, 12))


@pytest.mark.parametrize(("stride", "side"), [(1, 32), (16, 224)])
def test_images_are_made_up_in_the_size_that_a_network_is_made_for(stride: int, side: int, tmp_path: Path) -> None:
    seen: list[int] = []

    class Seeing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape[-1])
            return super().forward(x)

    layers = [nn.Conv2d(3, 4, 3, stride), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1)]
    net = Seeing(*layers, nn.Flatten(), nn.Linear(4, 3)).eval()
    mess.compress(net, tmp_path / "net.mess", verify=False)
    assert seen[-1] == side


def test_kernels_that_look_alike_take_fewer_bytes_at_the_same_error(tmp_path: Path) -> None:
    """Weights alone say that much: their pixels go together."""
    random = torch.Generator().manual_seed(0)
    apart = torch.randn(64, 32, 3, 3, generator=random)
    alike = apart + 2 * torch.randn(64, 32, 1, 1, generator=random)
    stored = {}
    for name, weight in (("apart", apart), ("alike", alike)):
        report = mess.compress({"conv.weight": weight}, tmp_path / "net.mess", verify=False)
        found = mess.load_state_dict(tmp_path / "net.mess")["conv.weight"]
        assert float((found - weight).square().sum() / weight.square().sum()) == pytest.approx(1e-5, rel=0.05)
        stored[name] = report.bytes
    # of nine numbers one varies 37 times as much as each of the others: 0.87 bits less a number, of 8.4
    assert stored["alike"] < 0.92 * stored["apart"]


def test_few_large_kernels_get_no_references(tmp_path: Path) -> None:
    """An embedding of positions looks like kernels of its height and width: 40,000² numbers would be 13 GB."""
    weight = torch.randn(1, 8, 200, 200, generator=torch.Generator().manual_seed(0))
    mess.compress({"positions": weight}, tmp_path / "net.mess", verify=False)
    found = mess.load_state_dict(tmp_path / "net.mess")["positions"]
    assert float((found - weight).square().sum() / weight.square().sum()) < 1.1e-5
