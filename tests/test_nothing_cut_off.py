"""What is stored is what was promised, and what is asked for is done or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mess
from mess.errors import DataError, OptionError
from mess.scheme.learned.inputs import MAX_INPUTS, distinct, gather_inputs
from mess.storing import StoreOptions


def error_of(weights: dict[str, Tensor], folder: Path, **options: object) -> float:
    """Store weights of no network and return the largest relative squared error of a tensor."""
    mess.compress(weights, folder / "net.mess", verify=False, **options)
    found = mess.load_state_dict(folder / "net.mess")
    return max(float((found[n] - w).square().sum() / w.square().sum()) for n, w in weights.items())


def of_rows(*rows: float) -> dict[str, Tensor]:
    weight = 0.02 * torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    weight[0, : len(rows)] = torch.tensor(rows)
    return {"layer.weight": weight}


@pytest.mark.parametrize("largest", [1.0, 10.0, 1e4, 1e6])
def test_one_weight_that_dwarfs_the_others_is_not_cut_off(largest: float, tmp_path: Path) -> None:
    assert error_of(of_rows(largest, -largest), tmp_path) < 2e-5


@pytest.mark.parametrize("factor", [2, 16, 64, 256, 1024])
def test_finer_steps_are_finer_however_fine(factor: int, tmp_path: Path) -> None:
    rules = {"layer.weight": {"finer": factor}}
    assert error_of(of_rows(), tmp_path, layers=rules) < 2e-5 / factor**2


def test_a_part_that_idles_keeps_its_largest_weight(tmp_path: Path) -> None:
    class Idling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 3), nn.Linear(100, 100)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x).mean((2, 3))

    net = Idling()
    net.idle.weight.data[0, 0] = 1e5
    mess.compress(net, tmp_path / "net.mess", calibration=torch.randn(16, 3, 8, 8), verify=False)
    found = mess.load_state_dict(tmp_path / "net.mess")["idle.weight"]
    assert float(found[0, 0]) == pytest.approx(1e5, rel=0.2)


def test_inputs_that_come_class_by_class_are_drawn() -> None:
    labels = torch.arange(20).repeat_interleave(MAX_INPUTS)
    inputs = labels.float()[:, None].expand(-1, 40)
    for given in (inputs, [(inputs, labels)]):
        drawn, told = gather_inputs(given, most=MAX_INPUTS)
        assert len(drawn) == MAX_INPUTS
        assert len(drawn[:, 0].unique()) == 20
        assert torch.equal(drawn, gather_inputs(given, most=MAX_INPUTS)[0])
        assert told is None or torch.equal(told.float(), drawn[:, 0])


def test_batches_are_taken_in_their_order_and_the_last_in_part() -> None:
    batches = [torch.full((700, 2), float(number)) for number in range(4)]
    drawn, _ = gather_inputs(batches, most=1000)
    assert drawn[:, 0].tolist() == [0.0] * 700 + [1.0] * 300


NET = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.mess"
    with pytest.raises(OptionError, match="divergence: expected a network that can be run"):
        mess.compress(of_rows(), path, divergence=0.1)
    with pytest.raises(OptionError, match="scheme: expected v4, as the options say, found v2"):
        mess.dumps(NET, "v2", options=StoreOptions(rest_bits=8))
    with pytest.raises(OptionError, match="calibration: expected inputs that the network runs on"):
        mess.compress(NET, path, calibration=IMAGES, validation=IMAGES[:, :, :5])
    with pytest.raises(DataError, match="which are normalised, found uint8"):
        mess.compress(NET, path, calibration=np.zeros((16, 3, 8, 8), np.uint8))
    with pytest.raises(OptionError, match="scale_bits: expected v2, v2a, v2q, v3, v3a beside it, found v1"):
        mess.compress(NET, path, "v1", scale_bits=8)
    assert not path.exists()


def test_batchnorm_with_a_large_epsilon_is_read_again(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1.5), nn.Flatten(), nn.Linear(144, 3)).eval()
    mess.compress(net, tmp_path / "net.mess", calibration=IMAGES, divergence=1e-3)
    found = mess.load_state_dict(tmp_path / "net.mess")
    torch.testing.assert_close(found["1.running_var"], net[1].running_var)


class Tutorial(nn.Module):
    """Flattens with `view`, which refuses images whose channels come last in memory."""

    def __init__(self, *, normed: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.head = (
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if normed else nn.Identity(), nn.Linear(196, 3)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 4).view(-1, 196))


@pytest.mark.parametrize(
    ("normed", "given"), [(False, {"calibration": torch.randn(16, 3, 32, 32)}), (True, {})], ids=["images", "none"]
)
def test_networks_that_flatten_with_view_are_looked_at(normed: bool, given: dict[str, Tensor], tmp_path: Path) -> None:
    report = mess.compress(Tutorial(normed=normed).eval(), tmp_path / "net.mess", verify=False, **given)
    assert report.look is not None
    assert report.look.divergence < 0.01


def test_inputs_that_are_all_alike_are_refused_and_repetitions_count_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected inputs that differ, found 16 that are all alike"):
        mess.compress(NET, tmp_path / "net.mess", calibration=torch.zeros(16, 3, 8, 8))
    twice, labels = distinct(torch.cat([IMAGES, IMAGES]), torch.arange(32))
    assert torch.equal(twice, IMAGES)
    assert labels is not None
    assert labels.tolist() == list(range(16))


class Detector(nn.Module):
    """Puts out as many boxes as it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.conv(x).flatten()
        return scores[scores > 0][None]


def test_answers_of_other_sizes_each_time_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a network whose answers have the same shapes each time"):
        mess.compress(Detector(), tmp_path / "net.mess", calibration=IMAGES)
