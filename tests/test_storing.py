"""Whole networks to a file and back: every version is its definition, on every network, and mistakes are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mess
from brute_force import best
from mess.errors import FormatError, OptionError, WeightsError
from mess.scheme import REFERENCE_VERSIONS, Geometry, get_scheme, plan

SMALL = {
    "mobilenet": {"width_mult": 0.25},
    "mobilenetv2": {"width_mult": 0.25},
    "resnet": {"layers": 8},
    "resnext": {"layers": 11, "groups": 32},
    "shufflenet": {"width_mult": 0.25},
    "shufflenetv2": {"width_mult": 0.5},
    "wideresnet": {"layers": 10, "width_mult": 1.0},
}
EACH = 6  # units of a layer that are held against the definition


def units_of(weight: np.ndarray, geometry: Geometry) -> Iterator[np.ndarray]:
    """Yield the units of a tensor one after the other: windows of each row, the last one short."""
    for row in weight.reshape(-1, geometry.row):
        for start in range(0, len(row), geometry.unit):
            yield row[start : start + geometry.unit]


def references_of(weight: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the references of a tensor: full windows at every stride of each row."""
    rows = weight.reshape(-1, geometry.row)
    starts = range(0, geometry.row - geometry.unit + 1, geometry.stride)
    return np.array([row[s : s + geometry.unit] for row in rows for s in starts])


def rounded(weight: np.ndarray, bits: int) -> np.ndarray:
    """Round as version v2q is defined."""
    step = (weight.max() - weight.min()) / (2**bits - 1)
    return np.clip(np.rint(weight / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


def check_definition(weights: dict[str, torch.Tensor], path: Path, made: nn.Module | dict, version: str, **cut) -> None:
    """Hold what a file gives back against the definition, on some units of every layer."""
    scheme = get_scheme(version)
    back = mess.load_state_dict(path)
    groups = plan(made, scheme, **cut).groups
    assert groups
    for group in groups:
        refs = references_of(weights[group.source.name].double().numpy(), group.source)
        for target in group.targets:
            weight = weights[target.name].double().numpy()
            if scheme.quant_bits:
                weight = rounded(weight, scheme.quant_bits)
            pairs = list(
                zip(units_of(weight, target), units_of(back[target.name].double().numpy(), target), strict=True)
            )
            for number in np.random.default_rng(0).choice(len(pairs), min(EACH, len(pairs)), replace=False):
                unit, found = pairs[number]
                index, fits = best(unit, refs, scheme.fit)
                least = fits[index][2]
                assert np.abs(found - unit).sum() <= least + 3e-6 * np.abs(unit).sum() + 1e-30
                near = [k for k, fit in enumerate(fits) if fit[2] <= least + 3e-6 * np.abs(unit).sum()]
                possible = [fits[k][0] * refs[k][: len(unit)] + fits[k][1] for k in near]
                assert min(np.abs(found - one).max() for one in possible) <= 3e-6 * max(np.abs(unit).max(), 1e-30)


@pytest.mark.parametrize(
    ("arch", "version"),
    [
        pytest.param(arch, version, marks=() if arch == "resnet" or version == "v2a" else pytest.mark.slow)
        for arch in SMALL
        for version in REFERENCE_VERSIONS
    ],
)
def test_every_network_comes_back_as_the_definition_says(arch: str, version: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mess.create_model(arch, **SMALL[arch])
    report = mess.compress(model, tmp_path / "net.mess", scheme=version)
    assert report.bytes == (tmp_path / "net.mess").stat().st_size
    check_definition(dict(model.state_dict()), tmp_path / "net.mess", model, version)
    again = mess.load(tmp_path / "net.mess")
    assert again.architecture == model.architecture
    with torch.no_grad():
        assert again(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(
    "options",
    [{"scheme": version} for version in REFERENCE_VERSIONS]
    + [{"scheme": "v2q", "quant_bits": 4}, {"scheme": "v3", "quant": True, "quant_bits": 4}],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_what_a_file_gives_back_is_stored_as_the_same_again(options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mess.create_model("resnet", "cifar10", layers=8, width_mult=0.5)
    once, twice = tmp_path / "once.mess", tmp_path / "twice.mess"
    mess.compress(model, once, **options, verify=False)
    mess.compress(once, twice, **options, verify=False)
    before, after = mess.load_state_dict(once), mess.load_state_dict(twice)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_kernels_that_a_file_holds_as_they_were_are_rounded_when_they_are_matched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mess.create_model("resnet", "cifar10", layers=8, width_mult=0.5)
    options = {"scheme": "v2q", "quant_bits": 4, "verify": False}
    mess.compress(model, tmp_path / "whole.mess", **options)
    mess.compress(model, tmp_path / "kept.mess", **options, layers={"layer3": "keep"})
    mess.compress(tmp_path / "kept.mess", tmp_path / "again.mess", **options)
    wanted, found = (mess.load_state_dict(tmp_path / f"{name}.mess") for name in ("whole", "again"))
    for name in ("layer3.0.conv1.weight", "layer1.0.conv1.weight"):
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("version", REFERENCE_VERSIONS)
def test_public_weights_come_back_as_the_definition_says(version: str, shared: Path, tmp_path: Path) -> None:
    kept = torch.load(shared / "weights" / "resnet20-12fca82f.th", map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("module."): tensor for name, tensor in kept.items()}
    mess.compress(weights, tmp_path / "net.mess", scheme=version)
    check_definition(weights, tmp_path / "net.mess", mess.create_model("resnet", layers=20), version)


def test_rows_of_1x1_and_linear_layers_come_back_as_the_definition_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 7, 1), nn.Conv2d(7, 9, 1), nn.Conv2d(9, 5, 1),
        nn.Flatten(), nn.Linear(10, 6), nn.Linear(6, 11),
    )  # fmt: skip
    mess.compress(model, tmp_path / "net.mess", scheme="v2", pointwise=4, linear=True)
    cut = {"pointwise": 4, "linear": True}
    groups = plan(model, get_scheme("v2"), **cut).groups
    assert [g.source.references for g in groups] == [18, 7 * 3, 6 * 7]
    check_definition(dict(model.state_dict()), tmp_path / "net.mess", model, "v2", **cut)


class Foreign(nn.Module):
    """Depthwise, dilated, one-dimensional, half precision: nothing the zoo has."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3)
        self.first = nn.Conv2d(channels, channels, 3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, groups=channels, dilation=2)
        self.large = nn.Conv2d(channels, channels, 5, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.extra_half = nn.Parameter(torch.randn(5).half())
        self.register_buffer("table", torch.arange(4))


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_foreign_network_comes_back_into_a_module_like_it(version: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, again = Foreign(), Foreign()
    report = mess.compress(model, tmp_path / "net.mess", scheme=version)
    reasons = dict(report.as_is)
    assert reasons["stem.weight"] == "dense convolution beside depthwise ones"
    assert "5×5 kernels" in reasons["large.weight"]
    mess.load_into(again, tmp_path / "net.mess")
    state, back = model.state_dict(), again.state_dict()
    assert {n: (t.dtype, t.shape) for n, t in back.items()} == {n: (t.dtype, t.shape) for n, t in state.items()}
    exact = [n for n in state if n not in ("second.weight",) and not n.startswith("norm")]
    assert all(torch.equal(back[name], state[name]) for name in exact)
    check_definition(dict(state), tmp_path / "net.mess", model, version)
    with pytest.raises(WeightsError, match="a network of the zoo"):
        mess.load(tmp_path / "net.mess")


def test_what_does_not_fit_a_module_is_named(tmp_path: Path) -> None:
    mess.compress(Foreign(), tmp_path / "net.mess", scheme="v2")
    larger = Foreign(8)
    with pytest.raises(WeightsError, match=r"stem\.weight: expected shape \(8, 3, 3, 3\), found \(6, 3, 3, 3\)"):
        mess.load_into(larger, tmp_path / "net.mess")
    fewer, more = Foreign(), Foreign()
    del fewer.mix
    more.extra = nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"weights with names that the model has not: mix\.bias, mix\.weight"):
        mess.load_into(fewer, tmp_path / "net.mess")
    before = more.stem.weight.clone()
    with pytest.raises(WeightsError, match=r"weights without extra\.bias, extra\.weight"):
        mess.load_into(more, tmp_path / "net.mess")
    assert torch.equal(more.stem.weight, before)
    hundred = mess.create_model("resnet", "cifar100", layers=8)
    mess.compress(mess.create_model("resnet", layers=8), tmp_path / "ten.mess", scheme="v2")
    with pytest.raises(WeightsError, match=r"linear\.(bias|weight): expected shape \(100"):
        mess.load_into(hundred, tmp_path / "ten.mess")


def test_only_what_is_asked_for_is_decoded(tmp_path: Path) -> None:
    model = mess.create_model("resnet", layers=8)
    mess.compress(model, tmp_path / "net.mess", scheme="v2", scale_bits=8, offset_bits=8)
    whole = mess.load_state_dict(tmp_path / "net.mess")
    for names in (["layer2.0.conv1.weight"], ["conv1.weight", "bn1.running_var"], ["linear.bias"]):
        part = mess.load_state_dict(tmp_path / "net.mess", names=names)
        assert list(part) == names
        assert all(torch.equal(part[name], whole[name]) for name in names)
    with pytest.raises(FormatError, match="none of that name"):
        mess.load_state_dict(tmp_path / "net.mess", names=["layer9.weight"])


def test_networks_without_enough_kernels_are_refused_with_the_number_needed(tmp_path: Path) -> None:
    for model, said in (
        (nn.Sequential(nn.Linear(3, 3)), "no convolution"),
        (nn.Sequential(nn.Conv2d(3, 3, 3)), "at least 2 layers"),
        ({"fc.weight": torch.zeros(3, 3)}, "no convolution"),
    ):
        with pytest.raises(OptionError, match=said):
            mess.compress(model, tmp_path / "net.mess", scheme="v2")
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(OptionError, match="at least 3 layers"):
        mess.compress(two, tmp_path / "net.mess", scheme="v2a")
    with pytest.raises(OptionError, match=r"^bind: expected at most 12"):
        mess.compress(two, tmp_path / "net.mess", "v3", bind=13)
    assert not (tmp_path / "net.mess").exists()
