"""Layers without numbers, and numbers at the end of what their dtype holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mess
from mess.codec import Codebook, Matched, NumberArray, Plain, StoredModel, encode_model, read_model, reconstruct
from mess.codec.quantize import choose_step, quantize
from mess.errors import WeightsError


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize("form", ["module", "state dict"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_layers_without_numbers_are_kept(version: str, form: str, place: int, tmp_path: Path) -> None:
    sizes = [3, 8, 8, 8, 8, 8]
    sizes[place] = 0
    layers = [nn.Conv2d(a, b, 3) for a, b in pairwise(sizes)]
    net = nn.Sequential(*layers, nn.BatchNorm2d(0))
    report = mess.compress(net if form == "module" else net.state_dict(), tmp_path / "net.mess", scheme=version)
    back = mess.load_state_dict(tmp_path / "net.mess")
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in net.state_dict().items()}
    empty = [name for name, tensor in back.items() if not tensor.numel()]
    assert not set(empty) & set(report.error)


def test_a_file_with_a_matched_tensor_without_numbers_can_be_read() -> None:
    none = NumberArray(np.zeros(0, np.float32), "float32")
    entries = {
        "a": Plain((2, 1, 3, 3), "float32", NumberArray(np.arange(18, dtype=np.float32), "float32")),
        "b": Matched((0, 2, 3, 3), "float32", 0, np.zeros(0, np.int64), none, none),
        "c": Matched((0, 2, 3, 3), "float32", 1, np.zeros(0, np.int64), none, none),
    }
    books = [Codebook("a", 9, 9, False), Codebook("a", 9, 9, True)]
    content = encode_model(StoredModel(None, {}, books, entries))
    assert {n: a.shape for n, (a, _) in reconstruct(read_model(content)).items()}["b"] == (0, 2, 3, 3)


def large(dtype: torch.dtype) -> dict[str, Tensor]:
    torch.manual_seed(0)
    top = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    return {
        f"{i}.weight": (torch.rand(8, 8, 3, 3, dtype=torch.float64) * top).to(dtype).clamp(max=top) for i in range(4)
    }


class WithTables(nn.Module):
    """A network with buffers that hold what no weight may: a mask, anchors, a table beyond float32."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 8, 8, 3) for i in range(3)])
        self.register_buffer("mask", torch.full((9, 9), -torch.inf).triu(1))
        self.register_buffer("anchors", torch.tensor([1, torch.nan, torch.inf]).half())
        self.register_buffer("codes", torch.tensor([1, torch.nan, -torch.inf]).bfloat16())
        self.register_buffer("wide", torch.tensor([1 / 3, 1e300], dtype=torch.float64))
        self.register_buffer("grid", torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x).mean((2, 3))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scheme": "v2", "rest_bits": 8, "layers": {"grid": "keep"}},
        {"calibration": torch.rand(32, 3, 16, 16), "divergence": 0.2},
    ],
    ids=["v4", "v2", "v4, looked at"],
)
@pytest.mark.parametrize("form", ["module", "state dict"])
def test_buffers_that_are_not_finite_come_back_bit_for_bit(options: dict, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = WithTables()
    if form == "state dict" and "calibration" in options:
        pytest.skip("weights alone are not looked at")
    mess.compress(network if form == "module" else network.state_dict(), tmp_path / "net.mess", **options)
    again = mess.load_into(WithTables(), tmp_path / "net.mess")
    for name, own in network.named_buffers():
        if form == "state dict" and name == "grid":
            continue  # nothing says there that nobody trained it
        found = again.get_buffer(name)
        assert (found.dtype, found.shape) == (own.dtype, own.shape)
        assert torch.equal(found.view(torch.uint8), own.view(torch.uint8)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("options", [{}, {"scale_bits": 4, "offset_bits": 4, "rest_bits": 4}], ids=["32", "4"])
def test_nothing_becomes_infinite_in_its_own_dtype(dtype: torch.dtype, options: dict, tmp_path: Path) -> None:
    mess.compress(large(dtype), tmp_path / "net.mess", scheme="v2", **options)
    back = mess.load_state_dict(tmp_path / "net.mess")
    assert all(tensor.dtype == dtype and bool(tensor.isfinite().all()) for tensor in back.values())


def test_v4_keeps_a_half_layer_that_would_become_infinite(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 3)).half()
    with torch.no_grad():
        net[1].weight.copy_(torch.where(torch.rand(8, 8, 3, 3) < 0.5, 65504.0, -65504.0))
        net[1].bias.fill_(65504.0)
    mess.compress(net, tmp_path / "net.mess", scheme="v4", calibration=torch.randn(8, 3, 8, 8), divergence=0.5)
    assert all(bool(tensor.isfinite().all()) for tensor in mess.load_state_dict(tmp_path / "net.mess").values())


def test_the_reason_for_what_is_kept_is_the_true_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), *(nn.Conv2d(8, 8, 3) for _ in range(3)), nn.ConvTranspose2d(8, 8, 3)).half()
    with torch.no_grad():
        net[3].weight.copy_(torch.where(torch.rand(8, 8, 3, 3) < 0.5, 65504.0, -65504.0))
    wanted = {
        "0.weight": "kernel layer before the references",
        "1.weight": "the references themselves",
        "3.weight": "transposed, or beyond what its dtype holds, as α·R + β",
        "4.weight": "transposed, or beyond what its dtype holds, as α·R + β",
    }
    reasons = dict(mess.compress(net, tmp_path / "net.mess", "v2a").as_is)
    assert {name: reason for name, reason in reasons.items() if name.endswith("weight")} == wanted
    bare = dict(mess.compress(net.state_dict(), tmp_path / "net.mess", "v2a").as_is)
    assert all(bare[name] == wanted[name] for name in ("0.weight", "1.weight", "3.weight"))
    linear = {
        "one.weight": torch.randn(1, 8),
        "half.weight": net[3].weight.detach().flatten(1),
        "all.weight": torch.randn(8, 8),
    }
    reasons = dict(mess.compress(linear, tmp_path / "net.mess", "v4").as_is)
    # steps of a trellis lie on both sides of the largest number that there is
    assert reasons == {
        "one.weight": "one row or column",
        "half.weight": "beyond what its dtype or the integers hold, once rounded",
    }


@pytest.mark.parametrize("bits", range(2, 13))
def test_the_largest_float_is_rounded_to_something_finite(bits: int) -> None:
    values = np.array([np.finfo(np.float32).max, -1.0], dtype=np.float32)
    step = choose_step(values, bits)
    assert np.isfinite(NumberArray(quantize(values, step), "int32", step).floats()).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_v4_gives_every_dtype_back(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 3))
    net = net.to(dtype).eval()
    mess.compress(net, tmp_path / "net.mess", scheme="v4", calibration=torch.randn(8, 3, 8, 8), divergence=2.0)
    back = mess.load_state_dict(tmp_path / "net.mess")
    assert {n: t.dtype for n, t in back.items()} == {n: t.dtype for n, t in net.state_dict().items()}


def test_a_bare_state_dict_may_hold_numbers_of_any_kind_and_shape(tmp_path: Path) -> None:
    weights = {
        "mask": torch.ones(5, 5, dtype=torch.bool).tril(),
        "scale": torch.tensor(3.5),
        "seen": torch.tensor(True),
        "tiny": torch.tensor([1e-9, -2e-9, 3e-9]),
        "none": torch.zeros(3, 0),
        "conv.weight": torch.randn(4, 4, 3, 3),
    }
    mess.compress(weights, tmp_path / "net.mess")
    back = mess.load_state_dict(tmp_path / "net.mess")
    assert {name: (t.dtype, t.shape) for name, t in back.items()} == {n: (t.dtype, t.shape) for n, t in weights.items()}
    torch.testing.assert_close(back["tiny"], weights["tiny"], rtol=1e-3, atol=0)
    assert all(torch.equal(back[name], weights[name]) for name in ("mask", "scale", "seen"))


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_doubles_beyond_float32_are_named(version: str, tmp_path: Path) -> None:
    weights = {f"{i}.weight": torch.full((8, 8, 3, 3), 1e300, dtype=torch.float64) for i in range(2)}
    with pytest.raises(WeightsError, match=r"0\.weight: expected numbers that float32 can hold, found 1e\+300"):
        mess.compress(weights, tmp_path / "net.mess", scheme=version)


@pytest.mark.parametrize("options", [{"scheme": "v4"}, {"scheme": "v2", "rest_bits": 16}], ids=["v4", "v2"])
def test_small_variances_of_a_frozen_norm_stay_above_zero(options: dict, tmp_path: Path) -> None:
    """With an ε of 0, as detectors of torchvision have it, a variance of 0 is NaN in every answer (vision#2599)."""
    weights = {f"conv{i}.weight": torch.randn(4, 4, 3, 3) for i in range(2)}
    weights["bn.running_var"] = torch.tensor([1.0, 1e-9, 2.0, 0.0])
    mess.compress(weights, tmp_path / "net.mess", **options)
    torch.testing.assert_close(
        mess.load_state_dict(tmp_path / "net.mess")["bn.running_var"], weights["bn.running_var"], rtol=0.01, atol=0
    )
