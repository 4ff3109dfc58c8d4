"""Storing and training on a device that every machine has: the CPU's bits, and no tensor in the wrong place."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mess
from mess.cli import main
from mess.data import Batches, DatasetInfo, ImageSet
from mess.devices import Devices
from mess.errors import DeviceError, OptionError
from mess.graphs.network import GraphNetwork
from mess.scheme.learned import inputs as made_up
from mess.scheme.learned import known_outputs, sensitivity, synthetic_inputs
from mess.scheme.learned.layers import weight_layers
from mess.scheme.matched.penalties import nuclear_norm
from mess.storing import Request, StoreOptions, store
from mess.storing.held_out import predict
from mess.training import TrainOptions, fit
from mess.training import checkpoint as files
from second_device import THERE, SecondDevice
from test_capture import CHOICES, through
from training_fakes import digest, tiny

CPU = torch.device("cpu")
HERE = torch.randn(70, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """Kernels, grouped and transposed ones, rows of numbers, a weight whose product nobody sees, two answers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 8, 3, padding="same"), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.norm, self.apart = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.added, self.head = nn.Parameter(torch.randn(1, 8, 16, 1)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.apart(self.norm(self.up(self.stem(x).relu()))) + self.added
        return {"scores": self.head(x.mean((2, 3))), "sum": x.sum()}


def stored(path: Path, model: nn.Module, device: torch.device, calibration: Any, options: dict[str, Any]) -> bytes:
    store(model, path, Request(StoreOptions(**options), calibration, verify=False, device=device))
    return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": 20.0},
        pytest.param({"divergence": 20.0, "layers": {"stem": "keep"}}, marks=pytest.mark.slow),
        {"version": "v2", "scale_bits": 8},
    ],
    ids=["v4", "a layer kept", "v2"],
)
def test_a_network_is_stored_with_the_cpus_bits(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, calibration = Mixed().eval(), HERE
    if "divergence" not in options:
        model, calibration = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25).eval(), None
    with SecondDevice() as there:
        found = stored(tmp_path / "there.mess", model, THERE, calibration, options)
    assert found == stored(tmp_path / "here.mess", model, CPU, calibration, options)
    assert there.operations["aten.convolution.default"] > 40 or "version" in options
    assert there.most_moved <= 64 * HERE[0].numel()  # a batch, never all inputs
    assert {x.device for x in model.state_dict().values()} == {CPU}


@pytest.mark.parametrize("answers_each", [True, False])
def test_channels_matter_as_much_however_many_batches_go_at_once(
    answers_each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Mixed().eval() if not answers_each else nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 4))
    images, found = HERE.repeat(3, 1, 1, 1), []
    for device, together in ((CPU, 1), (THERE, 3)):
        monkeypatch.setattr(sensitivity, "batches_at_once", lambda *_, together=together: together)
        with SecondDevice():
            network = copy.deepcopy(model).to(device)
            layers, outputs = weight_layers(network, HERE[:1].to(device)), known_outputs(network, images)
            seen = sensitivity.output_sensitivity(network, layers, images, outputs)
            found.append([{name: x.cpu() for name, x in part.items()} for part in (seen.channels, seen.vectors)])
    for name, square_O in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], square_O, rtol=1e-4, atol=0.0)
    for name, square in found[0][1].items():
        assert float(found[1][1][name].mean() / square.mean()) == pytest.approx(1.0, abs=0.5)


def test_images_are_made_up_and_scored_where_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_up, "STEPS", 2)
    model = mess.create_model("resnet", dataset="digits", layers=8, width_mult=0.25).eval()
    with SecondDevice() as there:
        images = synthetic_inputs(copy.deepcopy(model).to(THERE), 16, 4)
    assert there.operations["aten.convolution.default"]
    assert torch.equal(images, synthetic_inputs(model, 16, 4))
    with SecondDevice():
        scores = predict(copy.deepcopy(model).to(THERE), images)
    assert torch.equal(scores, predict(model, images))


class ThereDevices(Devices):
    """One process on the second device."""

    device = THERE


WAYS = [pytest.param(way, marks=pytest.mark.slow) for way in CHOICES if "project" not in way]


@pytest.mark.parametrize("way", ["plain", *WAYS])
def test_training_stays_where_it_is(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, penalties, matching, tests in the stored form, averages and checkpoints."""
    monkeypatch.setattr("mess.scheme.matched.penalties.singular_values", nuclear_norm)
    monkeypatch.setattr("mess.scheme.learned.training.REFRESH", 2)
    options = TrainOptions(epochs=2, batch_size=16, lr=0.01, save_epoch=1, ema=0.9 if way == "plain" else 0.0)
    weights = []
    for devices, surrounding in ((Devices(), nullcontext()), (ThereDevices(), SecondDevice())):
        with surrounding:
            model, hooks = through(CHOICES[way], options) if way != "plain" else (tiny(), None)
            data = (squares(devices.device, train=train) for train in (True, False))
            fit(model, *data, options, devices, hooks=hooks, checkpoint_dir=tmp_path / str(devices.device.index))
        weights.append(files.load(tmp_path / str(devices.device.index) / files.LAST)["state_dict"])
    assert digest(weights[0]) == digest(weights[1])


def squares(device: torch.device, *, train: bool) -> Batches:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (20, 3, 16, 16), generator=generator, dtype=torch.uint8)
    info = DatasetInfo("squares", 3, (0.5,) * 3, (0.25,) * 3, 16, padding=2)
    return Batches(ImageSet(info, images, torch.arange(20) % 3), 16, train=train, device=device, channels_last=True)


def test_graphs_run_where_their_inputs_are() -> None:
    """Sizes that are worked out on the way, and constants, are on the CPU."""
    from test_onnx_operators import CASES, X, single

    for kind, attributes, others, opset in CASES:
        content = single(kind, attributes, X, others, opset, outputs=2 if kind == "Split" else 1)
        wanted = GraphNetwork(content, {}).outputs(torch.from_numpy(X))
        with SecondDevice():
            found = GraphNetwork(content, {}).outputs(torch.from_numpy(X).to(THERE))
        assert all(map(torch.equal, [x.cpu() for x in found], wanted)), kind


def test_a_tensor_in_the_wrong_place_is_noticed() -> None:
    with SecondDevice():
        there = torch.ones(3, device=THERE)
        assert float((there * 2 + torch.tensor(1.0)).sum()) == 9
        with pytest.raises(AssertionError, match=r"of the CPU \[\(3,\)\]"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="NumPy"):
            there.numpy()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU that torch can use")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    model = mess.create_model("resnet", dataset="digits", layers=8)
    with pytest.raises(DeviceError, match="device: expected a GPU that torch can use, found none"):
        mess.compress(model, tmp_path / "net.mess", device="cuda")
    with pytest.raises(OptionError, match="cpu, cuda or cuda:N"):
        mess.compress(model, tmp_path / "net.mess", device="mps")
    path = tmp_path / "net.pth"
    torch.save(model.state_dict(), path)
    for flags, told in ((["-C"], "-C: expected a GPU that torch can use"), (["-g", "1"], "-g: expected -C beside it")):
        assert main(["compress", str(path), *flags]) == 2
        assert told in capfd.readouterr().err
