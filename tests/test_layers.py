"""What is asked of single layers: kept bit for bit, finer, in bits of their own; what means nothing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mess
from mess.cli import main
from mess.codec.rows import precision_of
from mess.errors import OptionError
from mess.storing import StoreOptions

INPUTS = torch.randn(12, 3, 10, 10, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        blocks = [part for i in (3, 24, 24) for part in (nn.Conv2d(i, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(24, 10)
        for part in self.features:
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.bias)
                nn.init.uniform_(part.weight, 0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def stored(
    path: Path, layers: Any = None, scheme: str = "v4", **more: Any
) -> tuple[mess.SizeReport, dict[str, Tensor]]:
    given = {"calibration": INPUTS} if scheme == "v4" and "blind" not in more else {}
    network = Net().eval().state_dict() if more.pop("blind", False) else Net().eval()
    report = mess.compress(network, path, scheme, layers=layers, verify=False, **given, **more)
    return report, mess.load_state_dict(path)


def squares(found: dict[str, Tensor], name: str) -> float:
    return float((found[name] - Net().state_dict()[name]).square().sum())


@pytest.mark.parametrize(
    ("scheme", "more"),
    [("v4", {}), ("v4", {"blind": True}), ("v2", {}), ("v1", {}), ("v2", {"rest_bits": 4})],
)
def test_what_is_kept_comes_back_bit_for_bit(scheme: str, more: dict, tmp_path: Path) -> None:
    layers = {"classifier": "keep", "features.3": "keep", "features.7": "keep"}
    report, found = stored(tmp_path / "net.mess", layers, scheme, **more)
    own = Net().state_dict()
    kept = [n for n in own if n.startswith(("classifier.", "features.3.", "features.7."))]
    assert len(kept) == 9
    assert all(torch.equal(found[name], own[name]) for name in kept)
    assert not torch.equal(found["features.6.weight"], own["features.6.weight"])
    reasons = dict(report.as_is)
    assert "kept, as was asked for" in reasons.values() or scheme == "v1"
    assert ("kept" in reasons["features.3.weight"]) == (scheme != "v1")  # the references of v1
    assert mess.inspect(tmp_path / "net.mess").scheme["kept"]


def test_float64_and_all_of_a_network_can_be_kept(tmp_path: Path) -> None:
    network = Net().double().eval()
    mess.compress(network, tmp_path / "net.mess", calibration=INPUTS, layers={"*": "keep"}, verify=False)
    found = mess.load_state_dict(tmp_path / "net.mess")
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("more", [{}, {"blind": True}])
def test_finer_layers_lose_less_and_others_are_as_they_were(more: dict, tmp_path: Path) -> None:
    plain, before = stored(tmp_path / "plain.mess", **more)
    report, found = stored(tmp_path / "finer.mess", {"features.6": {"finer": 4}}, **more)
    lost = squares(before, "features.6.weight") / squares(found, "features.6.weight")
    assert 4 < lost < 64  # a fourth of the step: a sixteenth of the square, where the step is not chosen an octave off
    assert report.bytes > plain.bytes
    assert torch.equal(before["features.0.weight"], found["features.0.weight"])
    if more:
        coarse, _ = stored(tmp_path / "coarser.mess", {"features.6": {"finer": 0.25}}, **more)
        assert coarse.bytes < plain.bytes


def test_bits_of_single_tensors(tmp_path: Path) -> None:
    stored(tmp_path / "net.mess", {"features.*": {"rest_bits": 3}, "features.7": {"rest_bits": 16}}, rest_bits=12)
    rest = mess.inspect(tmp_path / "net.mess")
    forms = {tensor.name: tensor.forms for tensor in rest.tensors}
    assert set(forms["features.1"].values()) == {"rounded to 3 bits"}
    assert set(forms["features.7"].values()) == {"float16"}
    assert set(forms["classifier.bias"].values()) == {"rounded to 12 bits"}
    assert "BatchNorm float16, rounded to 3 bits" in precision_of(rest)
    stored(tmp_path / "net.mess", {"features.1": {"rest_bits": 6}, "features.4": {"rest_bits": 10}}, rest_bits=8)
    assert "rounded to 6 to 10 bits" in precision_of(mess.inspect(tmp_path / "net.mess"))
    layers = {"features.6": {"scale_bits": 4, "offset_bits": 16}, "classifier": {"rest_bits": 5}}
    stored(tmp_path / "net.mess", layers, "v2")
    forms = {tensor.name: tensor.forms for tensor in mess.inspect(tmp_path / "net.mess").tensors}
    assert forms["features.6.weight"]["scales"] == "rounded to 4 bits"
    assert forms["features.6.weight"]["offsets"] == "float16"
    assert forms["classifier.weight"]["tensors"] == "rounded to 5 bits"
    assert forms["classifier.bias"]["tensors"] == "rounded to 5 bits"
    assert forms["features.0.weight"]["references"] == "float32"


def test_the_last_pattern_that_matches_says_all(tmp_path: Path) -> None:
    own = Net().state_dict()["classifier.weight"]
    _, found = stored(tmp_path / "net.mess", {"classifier": {"finer": 2}, "*.weight": "keep"}, blind=True)
    assert torch.equal(found["classifier.weight"], own)
    _, found = stored(tmp_path / "net.mess", {"*.weight": "keep", "classifier": {"finer": 2}}, blind=True)
    assert not torch.equal(found["classifier.weight"], own)


def test_tensors_that_are_one_are_asked_as_one(tmp_path: Path) -> None:
    network = Net().eval()
    network.features[6].weight = network.features[3].weight
    mess.compress(network, tmp_path / "net.mess", calibration=INPUTS, layers={"features.6": "keep"}, verify=False)
    found = mess.load_state_dict(tmp_path / "net.mess")
    for name in ("features.3.weight", "features.6.weight"):
        assert torch.equal(found[name], network.state_dict()[name])


@pytest.mark.parametrize(
    ("layers", "scheme", "said"),
    [
        ({"clasifier": "keep"}, "v4", "layers: expected the name of a tensor.* as classifier.*found clasifier"),
        ({"feature.*": "keep"}, "v2", "as features"),
        ({"classifier": "Keep"}, "v4", "'classifier': expected \"keep\" or a mapping with some of finer, rest_bits"),
        ({"classifier": {}}, "v4", "a mapping with some of"),
        ({"classifier": {"finer": 0}}, "v4", "finer: expected a factor from"),
        ({"classifier": {"finer": True}}, "v4", "finer: expected a factor from"),
        ({"classifier": {"rest_bits": 13}}, "v4", "rest_bits: expected 2…12, 16 or 32, found 13"),
        ({"classifier": {"finer": 2}}, "v2", "scale_bits, offset_bits, rest_bits with v2, found finer"),
        ({"features": {"scale_bits": 8}}, "v1", "expected some of rest_bits with v1"),
        ({"features": {"scale_bits": 8}}, "v4", "expected some of finer, rest_bits with v4"),
        ({"classifier.weight": {"rest_bits": 8}}, "v4", "a pattern that matches BatchNorm, biases or other vectors"),
        ({"classifier": {"scale_bits": 8}}, "v2", "a pattern that matches a tensor that references stand for"),
        ({"features.6.weight": {"rest_bits": 8}}, "v2", "a pattern that matches a tensor that none stand for"),
        (["classifier"], "v4", "a mapping of patterns to rules"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_refused(layers: Any, scheme: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=said):
        stored(tmp_path / "net.mess", layers, scheme)
    assert not (tmp_path / "net.mess").exists()


def test_the_command_keeps_and_refines(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Net().state_dict(), "net.pth")
    command = ["compress", "net.pth", "-o", "net.mess", "--no-verify", "--force"]
    assert main([*command, "--finer", "*=2", "--keep", "classifier", "--keep", "features.0"]) == 0
    typed = Path("net.mess").read_bytes()
    assert "kept, as was asked for" in capsys.readouterr().out
    layers = {"*": {"finer": 2.0}, "classifier": "keep", "features.0": "keep"}
    mess.compress("net.pth", "net.mess", layers=layers)
    assert Path("net.mess").read_bytes() == typed
    assert mess.dumps(Net().state_dict(), options=StoreOptions(layers=layers)) == typed
    for wrong in ("classifier", "=2", "classifier=much"):
        assert main([*command, "--finer", wrong]) == 2
    assert main([*command, "--keep", "nothing*"]) == 2
