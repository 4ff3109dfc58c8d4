"""Tensors that stand under several names: one rule says which are the same, and what is shared is never folded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mess
from learned_networks import pictures
from mess.scheme import find_ties


def test_only_the_very_same_memory_seen_alike_is_tied() -> None:
    square = torch.randn(4, 4)
    buffer = torch.zeros(8)
    weights = {
        "a": square, "turned": square.T, "bits": square.view(torch.int32), "again": square.view(4, 4),
        "left": buffer[:4], "right": buffer[4:], "none": torch.zeros(0), "nothing": torch.zeros(0),
        "copy": square.clone(),
    }  # fmt: skip
    assert find_ties(weights) == {"again": "a"}


class Mirrored(nn.Module):
    """Keeps a view of its weight the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.register_buffer("mirror", self.second.weight.detach().T)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).mean((2, 3))) @ self.mirror


def test_v4_does_not_take_a_transpose_for_the_weight_itself(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Mirrored()
    options = {"divergence": 1e-5, "rest_bits": 16}
    mess.compress(net, tmp_path / "net.mess", scheme="v4", calibration=pictures(), **options)
    found = mess.load_state_dict(tmp_path / "net.mess")
    torch.testing.assert_close(found["mirror"], net.mirror, atol=0.02, rtol=0)


class Domains(nn.Module):
    """BatchNorm layers with statistics of their own for two kinds of input, and parameters in common."""

    def __init__(self, shared: tuple[str, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(6) for _ in range(2)])
        for norm in self.norms:
            norm.running_mean, norm.running_var = torch.randn(6), torch.rand(6) + 0.01
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        for part in shared:
            setattr(self.norms[1], part, getattr(self.norms[0], part))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.convs[0](x)).relu()
        return self.convs[2](self.norms[1](self.convs[1](x)).relu()).mean((2, 3))


PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(
    "shared", [("weight", "bias"), ("bias",), ("running_mean", "running_var"), ("num_batches_tracked",), PARTS]
)
@pytest.mark.parametrize("version", ["v2", "v4"])
def test_norms_that_share_some_of_their_parts_compute_what_they_did(
    shared: tuple[str, ...], version: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, again = Domains(shared).eval(), Domains(shared).eval()
    again.norms[1].eps = net.norms[1].eps = 0.1
    options = {"calibration": pictures(), "divergence": 0.2, "rest_bits": 16} if version == "v4" else {}
    mess.compress(net, tmp_path / "net.mess", scheme=version, **options)
    mess.load_into(again, tmp_path / "net.mess")
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        for own, other in zip(net.norms, again.norms, strict=True):
            torch.testing.assert_close(other(x), own(x), atol=1e-2, rtol=1e-2)


def test_one_norm_under_two_names_computes_what_it_did(tmp_path: Path) -> None:
    net = Domains(())
    net.norms[1] = net.norms[0]
    mess.compress(net, tmp_path / "net.mess", scheme="v2")
    again = Domains(())
    mess.load_into(again, tmp_path / "net.mess")
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        for norm in again.eval().norms:
            torch.testing.assert_close(norm(x), net.eval().norms[0](x), atol=1e-4, rtol=1e-4)


def test_variances_that_are_not_folded_are_not_rounded_to_zero(tmp_path: Path) -> None:
    net, again = Domains(PARTS[:2]), Domains(PARTS[:2])
    net.norms[0].running_var = torch.tensor([1e-4, 1e-3, 0.1, 1.0, 100.0, 1e4])
    mess.compress(net, tmp_path / "net.mess", scheme="v2", rest_bits=8)
    mess.load_into(again, tmp_path / "net.mess")
    torch.testing.assert_close(again.norms[0].running_var, net.norms[0].running_var)
