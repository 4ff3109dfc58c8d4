"""What modules keep beside tensors, and the versions they tell their state dicts by, through a file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mess
from mess.cli import main
from mess.errors import WeightsError

KEPT = {"scale": 0.1, "steps": 3, "names": ["a", "ü"], "on": True, "none": None}


class Stateful(nn.Module):
    """A layer that keeps something that is no tensor, and refuses weights of an older version of itself."""

    _version = 2

    def __init__(self, state: Any = None) -> None:
        super().__init__()
        self.conv, self.state = nn.Conv2d(3, 8, 3), state

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        if local_metadata.get("version") != 2:
            raise ValueError("weights of version 1")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def network(state: Any = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Stateful(state), nn.Linear(8, 4))


@pytest.mark.parametrize("options", [{}, {"calibration": torch.rand(32, 3, 8, 8), "divergence": 0.3}])
def test_extra_state_and_versions_come_back_with_the_weights(options: dict, tmp_path: Path) -> None:
    given = network(KEPT)
    mess.compress(given, tmp_path / "net.mess", **options)
    again = network()
    mess.load_into(again, tmp_path / "net.mess")
    assert again[0].state == KEPT
    assert given[0].state == KEPT
    assert torch.equal(again[0].conv.weight, mess.load_state_dict(tmp_path / "net.mess")["0.conv.weight"])


def test_points_of_accuracy_are_counted_of_a_network_with_extra_state(tmp_path: Path) -> None:
    inputs = torch.rand(64, 3, 8, 8)
    report = mess.compress(network(KEPT), tmp_path / "net.mess", calibration=inputs, max_drop=50)
    assert report.look is not None


@pytest.mark.parametrize("way", ["state dict", "file"])
def test_extra_state_in_a_state_dict_is_kept_as_well(way: str, tmp_path: Path) -> None:
    state = network(KEPT).state_dict()
    torch.save(state, tmp_path / "net.pth")
    mess.compress(state if way == "state dict" else tmp_path / "net.pth", tmp_path / "net.mess")
    assert mess.load_into(network(), tmp_path / "net.mess")[0].state == KEPT


def test_a_report_compares_the_weights_beside_it(tmp_path: Path) -> None:
    torch.save(network(KEPT).state_dict(), tmp_path / "net.pth")
    mess.compress(tmp_path / "net.pth", tmp_path / "net.mess")
    files = [str(tmp_path / name) for name in ("net.mess", "net.pth", "page.html")]
    assert main(["report", files[0], "--original", files[1], "-o", files[2]]) == 0


def test_it_goes_out_with_the_weights_or_is_said_to_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mess.compress(network(KEPT).state_dict(), tmp_path / "net.mess")
    assert main(["decompress", str(tmp_path / "net.mess"), "-o", str(tmp_path / "net.pth")]) == 0
    assert torch.load(tmp_path / "net.pth", weights_only=True)["0._extra_state"] == KEPT
    assert main(["decompress", str(tmp_path / "net.mess"), "-o", str(tmp_path / "net.safetensors")]) == 0
    assert "left out, as no tensor: 0._extra_state" in capsys.readouterr().out


@pytest.mark.parametrize("state", [{1: "a"}, (1, 2), {"a": float("nan")}, {"a": torch.ones(2)}, 10**40, b"bytes"])
def test_extra_state_that_no_file_can_say_is_refused_by_name(state: Any, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"0\._extra_state: expected extra state that a file can say.*get_extra_state"
    ):
        mess.compress(network(state), tmp_path / "net.mess")
    assert not (tmp_path / "net.mess").exists()


def test_a_network_without_the_extra_state_of_a_file_is_refused(tmp_path: Path) -> None:
    mess.compress(network(KEPT), tmp_path / "net.mess")
    with pytest.raises(WeightsError, match=r"names that the model has not: 0\._extra_state"):
        mess.load_into(
            nn.Sequential(nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3)}), nn.Linear(8, 4)), tmp_path / "net.mess"
        )
