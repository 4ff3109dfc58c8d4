"""Version 4: learned references, and rounding with error feedback."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learned_networks import pictures, zoo_network
from mess import codec
from mess.arithmetic.step_exponents import Exponents, steps_of
from mess.codec.expansion import Integers, write_expansions
from mess.scheme.learned import LearnedLayer, LearnOptions, curvature, layers, learn, rebuild_layer, synthetic_inputs
from mess.scheme.learned import inputs as inputs_module
from mess.scheme.learned.basis import shared_bases
from mess.scheme.learned.calls import Watch
from mess.scheme.learned.inputs import natural_noise
from mess.scheme.learned.layers import patch_order, patches, products, weight_layers
from mess.scheme.learned.rate_model import RateModel
from mess.scheme.learned.rounding import (
    RoundingProblem,
    inverse_cholesky_,
    layer_step,
    round_layer,
    rounded,
    rounded_in_trellises,
)
from mess.scheme.learned.step_sizes import fitted_exponents, in_steps
from mess.scheme.learned.training import Latent


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
    bases = shared_bases((x.weight, x.basis) for x in weight_layers(net, torch.randn(1, 8, 9, 9)))
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


def problem_of(weight_GRn: Tensor, moment_Gnn: Tensor, terms: int, g: Tensor | None = None) -> RoundingProblem:
    upper_Gnn = inverse_cholesky_(moment_Gnn.clone())
    cost_Gn = 1 / upper_Gnn.diagonal(dim1=1, dim2=2).square()
    g = torch.ones(weight_GRn.shape[:2], dtype=torch.float64) if g is None else g
    return RoundingProblem(weight_GRn.clone(), upper_Gnn, g, cost_Gn, terms)


def test_error_feedback_loses_less_than_rounding() -> None:
    moment = moment_of(36)
    weight = torch.randn(1, 20, 36, dtype=torch.float64)
    integers, _ = round_layer(problem_of(weight, moment, 9), 0.5)

    def loss(rounded: Tensor) -> float:
        error = weight - rounded
        return float((error @ moment * error).sum())

    assert loss(integers * 0.5) < 0.8 * loss(torch.round(weight / 0.5) * 0.5)


@pytest.mark.parametrize(("groups", "rows", "size", "terms"), [(1, 7, 153, 9), (5, 1, 9, 9), (3, 4, 20, 1)])
def test_rounding_in_blocks_is_rounding_number_by_number(groups: int, rows: int, size: int, terms: int) -> None:
    torch.manual_seed(4)
    mixing = torch.randn(groups, size, size, dtype=torch.float64)
    weight, g = torch.randn(groups, rows, size).double(), torch.rand(groups, rows).double() + 0.1
    problem = problem_of(weight, mixing @ mixing.mT / size, terms, g)
    upper = problem.upper_Gnn
    step, rest = 0.3, weight / 0.3
    integers = torch.empty_like(rest)
    for group, row in itertools.product(range(groups), range(rows)):
        for j in range(size):
            w, own = float(rest[group, row, j]), float(upper[group, j, j])
            q = integers[group, row, j] = round(w)
            rest[group, row, j + 1 :] -= (w - q) / own * upper[group, j, j + 1 :]
    found, wanted = round_layer(problem, step)
    assert torch.equal(found, integers)
    torch.testing.assert_close(wanted, rest)


def test_a_layer_step_is_where_a_bit_is_worth_its_price() -> None:
    torch.manual_seed(5)
    problem, lmbda = problem_of(torch.randn(1, 400, 16).double(), torch.eye(16).double()[None], 1), 1e-3
    step = layer_step([problem], lmbda)
    assert layer_step([problem], 4 * lmbda) == pytest.approx(2 * step)

    def lost(step: float) -> float:
        integers, wanted = round_layer(problem, step)
        return 0.5 * float((problem.cost_Gn[:, None] * ((wanted - integers) * step).square()).sum())

    saved = (lost(2**0.5 * step) - lost(2**-0.5 * step)) / problem.target_GRn.numel()  # by one bit a number
    assert saved == pytest.approx(1.08 * lmbda, rel=0.3)


@pytest.mark.parametrize("lmbda", [1e-9, 1e-15, 1e-30])
def test_a_finer_rate_never_cuts_integers_off(lmbda: float) -> None:
    """Where answers hardly vary, steps would be so fine that no integer is large enough."""
    torch.manual_seed(5)
    weight = torch.randn(1, 40, 16).double()
    problem = problem_of(weight, moment_of(16), 1)
    step = layer_step([problem], lmbda)
    for integers, size in ((round_layer(problem, step)[0], step), rounded_in_trellises([problem], step)[0::2]):
        assert float((integers * size - weight).square().mean()) < 1e-5


def test_numbers_in_their_own_steps_are_the_same_problem() -> None:
    torch.manual_seed(6)
    mixing = torch.randn(2, 18, 18, dtype=torch.float64)
    weight, g = torch.randn(2, 3, 18).double(), torch.rand(2, 3).double() + 0.1
    problem = problem_of(weight, mixing @ mixing.mT, 9, g)
    exponents = Exponents(np.array([-4, 0, 4, 8, -8, 0]), np.array([4, -4]), np.arange(9) - 4)
    own = in_steps(problem_of(weight, mixing @ mixing.mT, 9, g), exponents)
    steps_GRn = torch.from_numpy(steps_of(0.1, exponents)).double().reshape(2, 3, 18)
    integers, unrounded = round_layer(own, 0.1)

    def lost(of: RoundingProblem, error_GRn: Tensor) -> Tensor:
        return (of.sensitivity_GR[..., None] * of.cost_Gn[:, None] * error_GRn.square()).sum()

    torch.testing.assert_close(
        lost(own, (unrounded - integers) * 0.1), lost(problem, (unrounded - integers) * steps_GRn), rtol=1e-5, atol=0
    )
    # what errors of a row come to in all, with what was passed on, is the same too
    error_GRn = weight - integers * steps_GRn
    whole = (g[..., None] * (error_GRn @ (mixing @ mixing.mT)) * error_GRn).sum()
    torch.testing.assert_close(whole, lost(problem, (unrounded - integers) * steps_GRn), rtol=0.02, atol=0)


def test_columns_that_matter_less_get_coarser_steps() -> None:
    cost_Gn = torch.tensor([[1.0, 1.0, 16.0, 16.0]], dtype=torch.float64)
    exponents = fitted_exponents(cost_Gn, torch.ones(1, 200).double(), 1, inputs=1000)
    assert exponents.rows_R is None
    assert exponents.terms_K is None
    assert exponents.columns_C is not None
    assert exponents.columns_C.tolist() == [4, 4, -4, -4]  # an octave finer where an error costs four times as much
    # one row: what is saved does not pay for saying so
    assert not fitted_exponents(cost_Gn / cost_Gn.mean(), torch.ones(1, 1).double(), 1, inputs=9).given


def test_rows_that_few_inputs_tell_apart_are_believed_less() -> None:
    cost_Gn, g = torch.ones(1, 400, dtype=torch.float64), torch.logspace(-2, 2, 16, dtype=torch.float64)[None]
    few, many = (fitted_exponents(cost_Gn, g, 1, inputs).rows_R for inputs in (32, 4096))
    assert few is not None
    assert many is not None
    assert np.ptp(few) < 0.5 * np.ptp(many)
    assert many[0] > many[-1]


@pytest.mark.parametrize("trellised", [True, False])
def test_a_wide_layer_is_rounded_in_parts_of_its_rows(trellised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are passed on within parts alone, which is better than not at all."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 8)).eval()
    inputs, unseen = pictures(400), pictures(400, seed=2)
    monkeypatch.setattr(curvature, "MAX_COLUMNS", 64)
    bits = {}
    for widest in (4608, 64, 1):
        monkeypatch.setattr(layers, "WIDEST", widest)
        monkeypatch.setattr(layers, "SPAN", widest)
        found = learn(net, inputs, LearnOptions(0.001, trellised=trellised))
        with torch.no_grad():
            error = float((found.model(unseen) - net(unseen)).square().mean())
        integers_M = torch.cat([layer.integers_OCT.flatten() for layer in found.layers.values()])
        # at the same error: a bit a number is worth a factor of four
        bits[widest] = float((integers_M.abs() + 1).float().log2().mean()) + 0.5 * math.log2(error)
    assert bits[4608] < bits[64] < bits[1] - 0.2


def test_a_latent_starts_as_what_was_rounded() -> None:
    integers_OCT = torch.randint(-3, 4, (4, 5, 9))
    latent = Latent(LearnedLayer(integers_OCT, 0.25, None, (4, 5, 3, 3), integers_OCT + 2.0), torch.eye(9))
    start_OCT = latent.right_inverse(torch.zeros(4, 5, 3, 3)).requires_grad_(True)
    assert torch.equal(rounded(start_OCT), integers_OCT.float())
    weight = latent(start_OCT)
    torch.testing.assert_close(weight.flatten(), (integers_OCT * 0.25).flatten())
    weight.sum().backward()
    assert start_OCT.grad is not None


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
    assert 0.9 * coded < estimate < 1.1 * coded


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


def test_decoding_is_the_codecs_arithmetic() -> None:
    torch.manual_seed(1)
    bases = {(3, 3, False): torch.linalg.qr(torch.randn(9, 9).double())[0]}
    exponents = Exponents(np.arange(6) - 3, np.array([-9, 4, 0, 1, 2]), np.arange(9) % 3)
    integers_OCT = torch.randint(-9, 9, (6, 5, 9), dtype=torch.int32)
    layer = LearnedLayer(integers_OCT, 0.0123, (3, 3, False), (6, 5, 3, 3), torch.zeros(1), exponents)
    numbers = codec.NumberArray(bases[3, 3, False].float().numpy().reshape(-1), "float32")
    step = float(np.float32(layer.step))
    entry = codec.Expanded(layer.shape, "float32", 0, layer.integers_OCT.numpy(), step, exponents)
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
