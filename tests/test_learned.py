"""Version 4: learned references, and rounding by cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learned_networks import pictures, zoo_network
from mess import codec
from mess.codec.expansion import Integers, write_expansions
from mess.scheme.learned import LearnedLayer, rebuild_layer, synthetic_inputs
from mess.scheme.learned import inputs as inputs_module
from mess.scheme.learned.basis import shared_bases
from mess.scheme.learned.calls import Watch
from mess.scheme.learned.distilling import _varied, divergence
from mess.scheme.learned.inputs import natural_noise
from mess.scheme.learned.latent import Latent
from mess.scheme.learned.layers import patch_order, patches, products, weight_layers
from mess.scheme.learned.rate_model import RateModel
from mess.scheme.learned.rate_rounding import best_step, code_lengths, inverse_cholesky_, layer_step, round_layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, bias=False),
        nn.Conv2d(4, 4, (3, 5), padding="same", dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Linear(9, 5, bias=False),
        nn.Conv1d(4, 6, 3, padding=1, groups=2, bias=False),
        nn.Conv3d(4, 6, 2, stride=2, padding=1, bias=False),
    ],
)
def test_a_matrix_times_patches_is_the_layer(layer: nn.Module) -> None:
    inputs = {nn.Conv1d: (3, 4, 9), nn.Conv3d: (2, 4, 5, 5, 5)}
    x = torch.randn(*inputs.get(type(layer), (3, 4, 9, 9)))
    (found,), calls = weight_layers(layer, x), []
    with Watch({id(layer.weight): "weight"}, before=lambda _, call: calls.append(call)):
        wanted = layer(x)
    if not isinstance(layer, nn.Linear):
        wanted = wanted.movedim(1, -1)
    weight_GRn, order_n = found.matrix(layer.weight), patch_order(layer.weight)
    cut = torch.cat([piece[:, :, order_n] @ weight_GRn.mT for piece in patches(calls[0])], 1)  # (G, N, R)
    flat = cut.permute(1, 0, 2).flatten(1)
    torch.testing.assert_close(flat, wanted.reshape(flat.shape), rtol=1e-4, atol=1e-5)
    some = torch.cat(list(patches(calls[0], 2, 1)), 1)[:, :, order_n] @ weight_GRn.mT
    torch.testing.assert_close(some, products(calls[0], layer.weight, 2, 1), rtol=1e-4, atol=1e-5)


def test_what_multiplies_is_seen_whatever_its_class() -> None:
    class Padded(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True))

    net = nn.Sequential(Padded(3, 4, 2, 2), nn.ConvTranspose2d(4, 4, 3), Standardised(4, 5, 3))
    found = {layer.name: layer.calls for layer in weight_layers(net, pictures(1))}
    assert found == {"0.weight": 1, "1.weight": 0, "2.weight": 0}


def test_bases_are_orthogonal_and_split_by_kind() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Conv2d(32, 160, 3, groups=32), nn.Conv2d(160, 160, 3, groups=160))
    bases = shared_bases(weight_layers(net, torch.randn(1, 8, 9, 9)))
    assert sorted(bases) == [(3, 3, False), (3, 3, True)]
    for basis_TT in bases.values():
        torch.testing.assert_close(basis_TT @ basis_TT.T, torch.eye(9, dtype=torch.float64), atol=5e-3, rtol=0)


def test_few_kernels_have_no_basis() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(4, 2))
    assert [x.basis for x in weight_layers(net, torch.randn(1, 1, 6, 6))] == [None, None]


def moment_of(size: int) -> Tensor:
    torch.manual_seed(3)
    mixing = torch.randn(size, size, dtype=torch.float64)
    return (mixing @ mixing.T / size)[None]


def test_error_feedback_loses_less_than_rounding() -> None:
    moment = moment_of(36)
    weight = torch.randn(1, 20, 36, dtype=torch.float64)
    integers, _ = round_layer(
        weight, inverse_cholesky_(moment.clone()), torch.ones(1, 20).double(), step=0.5, lmbda=1e-9, terms=9
    )

    def loss(rounded: Tensor) -> float:
        error = weight - rounded
        return float((error @ moment * error).sum())

    assert loss(integers * 0.5) < 0.8 * loss(torch.round(weight / 0.5) * 0.5)


@pytest.mark.parametrize(("groups", "rows", "size", "terms"), [(1, 7, 153, 9), (5, 1, 9, 9), (3, 4, 20, 1)])
def test_rounding_in_blocks_is_rounding_number_by_number(groups: int, rows: int, size: int, terms: int) -> None:
    torch.manual_seed(4)
    mixing = torch.randn(groups, size, size, dtype=torch.float64)
    upper = inverse_cholesky_(mixing @ mixing.mT / size)
    weight, g = torch.randn(groups, rows, size).double(), torch.rand(groups, rows).double() + 0.1
    step, lmbda = 0.3, 0.01
    integers = torch.round(weight / step)
    for _ in range(2):
        largest = int(integers.abs().max()) + 1
        bits = code_lengths(integers.reshape(groups, rows, -1, terms), largest)
        rest = weight / step
        for group, row in itertools.product(range(groups), range(rows)):
            for j in range(size):
                w, own = float(rest[group, row, j]), float(upper[group, j, j])
                near = round(w)
                tried = [math.copysign(max(abs(near) - less, 0), near) for less in (0, 1, 2, abs(near))]
                each = float(g[group, row]) * step**2 / 2 / own**2
                costs = [each * (w - q) ** 2 + lmbda * float(bits[j % terms, int(q) + largest]) for q in tried]
                q = tried[costs.index(min(costs))]
                integers[group, row, j] = q
                rest[group, row, j + 1 :] -= (w - q) / own * upper[group, j, j + 1 :]
    found, wanted = round_layer(weight, upper, g, step=step, lmbda=lmbda, terms=terms)
    assert torch.equal(found, integers)
    torch.testing.assert_close(wanted, rest)


def test_a_dearer_bit_makes_fewer_of_them() -> None:
    moment, g = moment_of(36), torch.ones(1, 20).double()
    weight = torch.randn(1, 20, 36, dtype=torch.float64)

    def bits(lmbda: float) -> float:
        integers, _ = round_layer(weight, inverse_cholesky_(moment.clone()), g, step=0.2, lmbda=lmbda, terms=9)
        table = code_lengths(integers.reshape(-1, 9), 40)
        return float(table.gather(1, integers.reshape(-1, 9).T.long() + 40).sum())

    assert bits(1e-6) > bits(1e-2) > bits(1e-1)
    upper = inverse_cholesky_(moment.clone())
    assert layer_step(upper, g, 4e-3) == pytest.approx(2 * layer_step(upper, g, 1e-3))


def test_the_step_that_is_tried_loses_and_costs_less_where_columns_differ() -> None:
    torch.manual_seed(5)
    mixing = torch.diag(torch.logspace(0, -3, 60, dtype=torch.float64)) @ torch.randn(60, 60).double()
    upper, g = inverse_cholesky_((mixing @ mixing.T)[None]), torch.ones(1, 64).double()
    weight, lmbda = torch.randn(1, 64, 60).double(), 0.01

    def cost(step: float) -> float:
        integers, wanted = round_layer(weight, upper, g, step=step, lmbda=lmbda, terms=1)
        lost = 0.5 * ((wanted - integers) * step / upper.diagonal(dim1=1, dim2=2)).square().sum()
        largest = int(integers.abs().max()) + 1
        bits = code_lengths(integers[..., None], largest)[0][integers.flatten().long() + largest].sum()
        return float(lost + lmbda * bits)

    assert cost(best_step(weight, upper, g, lmbda=lmbda, terms=1)) < 0.9 * cost(layer_step(upper, g, lmbda))


def test_a_latent_starts_as_what_was_rounded() -> None:
    integers = torch.randint(-3, 4, (4, 5, 9)).double()
    latent = Latent.start(integers, integers + 2.0, 0.25, torch.eye(9), torch.Size((4, 5, 3, 3)))
    assert torch.equal(latent.integers(), integers.float())
    torch.testing.assert_close(latent.weight().detach().flatten(), (integers * 0.25).float().flatten())
    latent.weight().sum().backward()
    assert latent.values_OCT.grad is not None


def sparse_layers(seed: int) -> dict[str, Tensor]:
    """Integers of two layers, (O, C, T): channels and terms of very different sizes."""
    draw = torch.Generator().manual_seed(seed)

    def layer(rows: int, columns: int, terms: int) -> Tensor:
        scale = [2 * torch.rand(size, generator=draw) for size in (rows, columns, terms)]
        scale_RCT = torch.einsum("r,c,t->rct", *(x.square() for x in scale))
        return (torch.randn(rows, columns, terms, generator=draw) * scale_RCT).round()

    return {"a": layer(48, 32, 9), "b": layer(64, 64, 1)}


@pytest.mark.parametrize("seed", range(3))
def test_prices_are_about_what_the_coder_takes(seed: int) -> None:
    layers = sparse_layers(seed)
    estimate = float(RateModel(layers).bits(layers)) / 8
    coded = len(write_expansions([Integers(x.int().numpy(), 1.0) for x in layers.values()])[1])
    assert 0.9 * coded < estimate < coded


def test_prices_see_empty_channels() -> None:
    layers = sparse_layers(0)
    bits = float(RateModel(layers).bits(layers))
    scattered = {name: x[torch.randperm(len(x))] for name, x in layers.items()}
    torch.testing.assert_close(float(RateModel(scattered).bits(scattered)), bits)  # a channel's number says nothing
    drawn = torch.randperm(layers["a"].numel())
    layers["a"] = layers["a"].flatten()[drawn].reshape(layers["a"].shape)  # the same integers, anywhere
    assert float(RateModel(layers).bits(layers)) > 1.1 * bits


def test_a_smaller_number_is_cheaper() -> None:
    values = {name: (x + 0.3 * x.sign()).requires_grad_(True) for name, x in sparse_layers(1).items()}
    RateModel(values).bits(values).backward()
    slope, sign = values["a"].grad, values["a"].detach().sign()
    assert slope is not None
    assert float((slope * sign).sum()) > 0
    assert torch.isfinite(slope).all()


def test_divergence_of_the_same_is_nothing() -> None:
    scores = torch.randn(6, 5)
    assert float(divergence(scores, scores)) == pytest.approx(0.0, abs=1e-6)
    assert float(divergence(scores[:, :1], scores[:, :1] + 2)) == pytest.approx(2.0)


def test_images_keep_their_size_and_other_inputs_their_numbers() -> None:
    draw = torch.Generator().manual_seed(0)
    batch = pictures(6)
    varied = _varied(batch, draw)
    assert varied.shape == batch.shape
    assert not torch.equal(varied, batch)
    rows = torch.randn(6, 7)
    assert torch.equal(_varied(rows, draw), rows)


def test_decoding_is_the_codecs_arithmetic() -> None:
    torch.manual_seed(1)
    bases = {(3, 3, False): torch.linalg.qr(torch.randn(9, 9).double())[0]}
    layer = LearnedLayer(
        torch.randint(-9, 9, (6, 5, 9), dtype=torch.int32), 0.0123, (3, 3, False), (6, 5, 3, 3), torch.zeros(1)
    )
    numbers = codec.NumberArray(bases[3, 3, False].float().numpy().reshape(-1), "float32")
    entry = codec.Expanded(layer.shape, "float32", 0, layer.integers_OCT.numpy(), float(np.float32(layer.step)))
    stored = codec.StoredModel(None, {}, [codec.Codebook(None, 9, 9, False, numbers)], {"w": entry})
    np.testing.assert_array_equal(codec.reconstruct(stored)["w"][0], rebuild_layer(layer, bases).numpy())


def test_made_up_pictures_suit_the_network() -> None:
    net = zoo_network()
    found = synthetic_inputs(net, 32, 8)
    assert found.shape == (8, 3, 32, 32)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, natural_noise(8, 32))


def test_a_larger_network_gets_fewer_pictures_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "STEPS", 1)
    net = zoo_network()
    work = inputs_module._work(net, natural_noise(1, 32))
    assert 10e6 < work < 12e6  # of 41 million multiply-adds a quarter, as the width is half
    for allowed, count in ((1000, 256), (100, 100), (1, 16)):
        monkeypatch.setattr(inputs_module, "SYNTHETIC_WORK", allowed * work)
        assert len(synthetic_inputs(net, 32)) == count
