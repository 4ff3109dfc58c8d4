"""Version 4: learned references, rounding by cost, and what becomes of a whole network."""

from __future__ import annotations

import copy
import itertools
import math
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mess import codec, models
from mess.conversion import layout_of, to_tensors
from mess.errors import DataError, OptionError
from mess.scheme.learned import LearnedLayer, LearnOptions, gather_inputs, learn, rebuild_layer, synthetic_inputs
from mess.scheme.learned import passes as passes_module
from mess.scheme.learned.basis import shared_bases
from mess.scheme.learned.distilling import _varied, divergence
from mess.scheme.learned.inputs import natural_noise
from mess.scheme.learned.latent import Latent
from mess.scheme.learned.layers import WeightLayer, patch_order, patches, weight_layers
from mess.scheme.learned.moments import asymmetric_target, input_moments
from mess.scheme.learned.passes import Passes, batched
from mess.scheme.learned.rounding import code_lengths, feedback, layer_step, round_layer
from mess.scheme.learned.sensitivity import output_sensitivity
from mess.storing_v4 import V4Options, accuracy_lost, compress_v4, convert_v4, v4_options

QUICK = V4Options(LearnOptions(divergence=0.02, steps=3))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_network(seed: int = 0) -> nn.Module:
    """Dense, depthwise, pointwise and linear layers, BatchNorm, and a bias."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    with torch.no_grad():
        net(torch.randn(64, 3, 8, 8))  # BatchNorm has seen something
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def pictures(count: int = 48, seed: int = 1) -> Tensor:
    return natural_noise(count, 8, seed=seed)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, bias=False),
        nn.Conv2d(4, 4, (3, 5), padding="same", dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Linear(9, 5, bias=False),
    ],
)
def test_a_matrix_times_patches_is_the_layer(layer: nn.Module) -> None:
    x = torch.randn(3, 4, 9, 9)
    (found,) = weight_layers(layer)
    weight_GRn, order_n = found.matrix(layer.weight), patch_order(found)
    products = [piece[:, :, order_n] @ weight_GRn.mT for piece in patches(found, x)]  # (G, N, R)
    flat = torch.cat(products, 1).permute(1, 0, 2).flatten(1)
    wanted = layer(x)
    wanted = wanted.flatten(2).permute(0, 2, 1) if wanted.dim() == 4 and isinstance(layer, nn.Conv2d) else wanted
    torch.testing.assert_close(flat, wanted.reshape(flat.shape), rtol=1e-4, atol=1e-5)


def test_bases_are_orthogonal_and_split_by_kind() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Conv2d(32, 160, 3, groups=32), nn.Conv2d(160, 160, 3, groups=160))
    bases = shared_bases(weight_layers(net))
    assert sorted(bases) == [(3, 3, False), (3, 3, True)]
    for basis_TT in bases.values():
        torch.testing.assert_close(basis_TT @ basis_TT.T, torch.eye(9, dtype=torch.float64), atol=5e-3, rtol=0)


def test_few_kernels_have_no_basis() -> None:
    assert [x.basis for x in weight_layers(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(4, 2)))] == [None, None]


def test_sensitive_channels_are_those_that_matter() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[3].weight[:, 2] = 0.0
    g, calls = output_sensitivity(net, weight_layers(net), pictures())
    assert g["0"].argmin() == 2
    assert calls == {"0": 1, "3": 1}


def test_frozen_weights_and_other_outputs_are_seen_too() -> None:
    net = nn.Conv2d(3, 4, 3).requires_grad_(False)
    g, _ = output_sensitivity(net, weight_layers(net), pictures())
    assert (g[""] > 0).all()


def test_targets_are_the_weights_where_nothing_has_changed() -> None:
    net = small_network()
    layers = weight_layers(net)
    calls = {layer.name: 1 for layer in layers}
    with Passes(net, layers, calls, [pictures()]) as one, Passes(net, layers, calls, [pictures()]) as other:
        moment, cross = input_moments(one, other, layers[1])
    weight = layers[1].matrix(layers[1].module.weight.detach().double())
    torch.testing.assert_close(asymmetric_target(weight, moment, cross), weight, rtol=1e-6, atol=1e-8)


class Tangled(nn.Module):
    """Runs its layers in another order than it has them, and one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.twice, self.early = (nn.Conv2d(c, 6, 3, padding=1) for c in (6, 6, 3))
        self.grouped = nn.Conv2d(6, 4, 3, stride=2, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.early(x).relu()
        return self.grouped(self.late(self.twice(self.twice(x).relu()).relu()).relu()).mean((2, 3))


def seen(net: nn.Module, layer: WeightLayer, batches: list[Tensor]) -> Tensor:
    """Return the patches a layer sees in whole forward passes, (G, N, n), by torch's own unfolding."""
    module, found = layer.module, []
    hook = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    for batch in batches:
        net(batch)
    hook.remove()
    if isinstance(module, nn.Linear):
        return torch.cat(found)[None]
    cut = [nn.functional.unfold(x, module.kernel_size, 1, module.padding, module.stride) for x in found]
    return torch.cat(cut).permute(0, 2, 1).flatten(0, 1).unflatten(1, (layer.groups, -1)).transpose(0, 1)


@torch.no_grad()
@pytest.mark.parametrize("bytes_waiting", [1 << 29, 6_000, 0])
@pytest.mark.parametrize("make", [small_network, Tangled])
def test_passes_that_wait_show_what_whole_passes_do(make, bytes_waiting: int, monkeypatch) -> None:
    monkeypatch.setattr(passes_module, "WAITING_BYTES", bytes_waiting)
    torch.manual_seed(0)
    net, batches = make().eval(), list(pictures(12).split(5))
    float_net = copy.deepcopy(net)
    layers, twins = weight_layers(net), weight_layers(float_net)
    _, calls = output_sensitivity(float_net, twins, torch.cat(batches))
    with Passes(net, layers, calls, batches) as stored, Passes(float_net, twins, calls, batches) as original:
        for layer, twin in zip(layers, twins, strict=True):
            x_GNn, y_GNn = seen(net, layer, batches).double(), seen(float_net, twin, batches).double()
            moment, cross = input_moments(stored, original, layer)
            torch.testing.assert_close(moment, x_GNn.mT @ x_GNn / x_GNn.shape[1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(cross, x_GNn.mT @ y_GNn / x_GNn.shape[1], rtol=1e-4, atol=1e-5)
            layer.module.weight.mul_(1 + 0.3 * torch.rand_like(layer.module.weight))
            stored.settle(layer.name)
            original.settle(layer.name)


def test_an_error_in_the_network_comes_out_of_a_pass_and_no_thread_stays() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such thing")

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Breaks(), nn.Conv2d(4, 4, 1))
    layers, before = weight_layers(net), threading.active_count()
    with Passes(net, layers, {"0": 1, "2": 1}, [pictures()]) as made:
        assert made.inputs(0, "0")[0].shape == (48, 3, 8, 8)
        made.settle("0")
        with pytest.raises(ValueError, match="no such thing"):
            made.inputs(0, "2")
    assert threading.active_count() == before


def test_large_inputs_come_in_small_batches() -> None:
    assert [len(x) for x in batched(torch.zeros(300, 3, 32, 32))] == [128, 128, 44]
    assert max(len(x) for x in batched(torch.zeros(1, 1, 1, 1).expand(20, 3, 224, 224))) == 6


def test_one_pass_for_all_draws_gives_what_a_pass_for_each_does() -> None:
    net, inputs = small_network(), pictures(200)
    layers = weight_layers(net)
    found, _ = output_sensitivity(net, layers, inputs, seed=5)
    squares = {layer.name: torch.zeros(layer.module.weight.shape[0]) for layer in layers}
    draw = torch.Generator().manual_seed(5)
    for batch in inputs.split(128) * 4:
        outputs: dict[nn.Module, Tensor] = {}
        hooks = [x.module.register_forward_hook(lambda m, _, out, kept=outputs: kept.update({m: out})) for x in layers]
        scores = net(batch)
        labels = torch.multinomial(scores.softmax(1), 1, generator=draw)[:, 0]
        loss = nn.functional.cross_entropy(scores, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, [outputs[layer.module] for layer in layers])
        for layer, gradient in zip(layers, gradients, strict=True):
            squares[layer.name] += gradient.transpose(0, 1).flatten(1).square().sum(1)
        for hook in hooks:
            hook.remove()
    for name, square in squares.items():
        wanted = square / 800
        torch.testing.assert_close(
            found[name].float(), wanted.clamp_min(float(wanted.mean()) * 1e-3), rtol=1e-4, atol=1e-9
        )


def moment_of(size: int) -> Tensor:
    torch.manual_seed(3)
    mixing = torch.randn(size, size, dtype=torch.float64)
    return (mixing @ mixing.T / size)[None]


def test_error_feedback_loses_less_than_rounding() -> None:
    moment = moment_of(36)
    weight = torch.randn(1, 20, 36, dtype=torch.float64)
    integers, _ = round_layer(weight, feedback(moment), torch.ones(1, 20).double(), step=0.5, price=1e-9, terms=9)

    def loss(rounded: Tensor) -> float:
        error = weight - rounded
        return float((error @ moment * error).sum())

    assert loss(integers * 0.5) < 0.8 * loss(torch.round(weight / 0.5) * 0.5)


@pytest.mark.parametrize(("groups", "rows", "size", "terms"), [(1, 7, 153, 9), (5, 1, 9, 9), (3, 4, 20, 1)])
def test_rounding_in_blocks_is_rounding_number_by_number(groups: int, rows: int, size: int, terms: int) -> None:
    torch.manual_seed(4)
    mixing = torch.randn(groups, size, size, dtype=torch.float64)
    upper = feedback(mixing @ mixing.mT / size)
    weight, g = torch.randn(groups, rows, size).double(), torch.rand(groups, rows).double() + 0.1
    step, price = 0.3, 0.01
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
                costs = [each * (w - q) ** 2 + price * float(bits[j % terms, int(q) + largest]) for q in tried]
                q = tried[costs.index(min(costs))]
                integers[group, row, j] = q
                rest[group, row, j + 1 :] -= (w - q) / own * upper[group, j, j + 1 :]
    found, wanted = round_layer(weight, upper, g, step=step, price=price, terms=terms)
    assert torch.equal(found, integers)
    torch.testing.assert_close(wanted, rest)


def test_a_dearer_bit_makes_fewer_of_them() -> None:
    moment, g = moment_of(36), torch.ones(1, 20).double()
    weight = torch.randn(1, 20, 36, dtype=torch.float64)

    def bits(price: float) -> float:
        integers, _ = round_layer(weight, feedback(moment), g, step=0.2, price=price, terms=9)
        table = code_lengths(integers.reshape(-1, 9), 40)
        return float(table.gather(1, integers.reshape(-1, 9).T.long() + 40).sum())

    assert bits(1e-6) > bits(1e-2) > bits(1e-1)
    upper = feedback(moment)
    assert layer_step(upper, g, 4e-3) == pytest.approx(2 * layer_step(upper, g, 1e-3))


def test_a_latent_starts_as_what_was_rounded() -> None:
    integers = torch.randint(-3, 4, (4, 5, 9)).double()
    latent = Latent.start(integers, integers + 2.0, 0.25, torch.eye(9), torch.Size((4, 5, 3, 3)))
    assert torch.equal(latent.integers(), integers.float())
    torch.testing.assert_close(latent.weight().detach().flatten(), (integers * 0.25).float().flatten())
    latent.weight().sum().backward()
    assert latent.values_OCT.grad is not None
    assert torch.isfinite(latent.bits())


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
    numbers = codec.Numbers(bases[3, 3, False].float().numpy().reshape(-1), "float32")
    entry = codec.Expanded(layer.shape, "float32", 0, layer.integers_OCT.numpy(), float(np.float32(layer.step)))
    stored = codec.StoredModel(None, {}, [codec.Codebook(None, 9, 9, False, numbers)], {"w": entry})
    np.testing.assert_array_equal(codec.reconstruct(stored)["w"][0], rebuild_layer(layer, bases).numpy())


def test_a_whole_network_of_ones_own(tmp_path) -> None:
    net = small_network()
    before = copy.deepcopy(net.state_dict())
    stored = compress_v4(
        net, [(pictures(32), torch.zeros(32).long()), (pictures(16, 2), torch.zeros(16).long())], options=QUICK
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    codec.write_model(tmp_path / "net.mess", stored)
    found = to_tensors(codec.read_model(tmp_path / "net.mess"))
    assert found.keys() == before.keys()
    again = small_network(1)
    again.load_state_dict(found)
    answers = pictures(40, 5)
    with torch.no_grad():
        assert float(divergence(again.eval()(answers), net(answers))) < 0.2
    assert (tmp_path / "net.mess").stat().st_size < sum(t.numel() for t in before.values()) * 4 / 4


def test_other_dtypes_come_back_as_they_were() -> None:
    net = small_network().to(torch.bfloat16)
    before = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    found = to_tensors(compress_v4(net, pictures(), options=QUICK))
    assert {name: found[name].dtype for name in before} == before


def test_the_report_tells_of_every_tensor() -> None:
    net = small_network()
    made = convert_v4(net, pictures(), options=QUICK)
    names = [*made.error, *(name for name, _ in made.as_is)]
    assert sorted(names) == sorted(net.state_dict())
    assert made.error.keys() == {"0.weight", "3.weight", "6.weight", "9.weight", "14.weight"}
    assert made.float_bytes == sum(t.numel() * t.element_size() for t in net.state_dict().values())


def test_the_same_twice_gives_the_same_bytes() -> None:
    one, other = (codec.encode_model(compress_v4(small_network(), pictures(), options=QUICK)) for _ in range(2))
    assert one == other


def test_smaller_divergence_is_nearer_and_larger() -> None:
    net, inputs = small_network(), pictures()

    def outcome(nats: float) -> tuple[int, float]:
        learned = learn(net, inputs, LearnOptions(divergence=nats, steps=0))
        with torch.no_grad():
            error = float(divergence(learned.model(inputs), net(inputs)))
        stored = compress_v4(net, inputs, options=V4Options(LearnOptions(divergence=nats, steps=0)))
        return len(codec.encode_model(stored)), error

    (small, far), (large, near) = outcome(0.3), outcome(0.003)
    assert small < large
    assert near < far


def zoo_network() -> nn.Module:
    torch.manual_seed(0)
    return models.create_model("resnet", dataset="cifar10", layers=20, width_mult=0.5).eval()


@pytest.mark.parametrize("target", [12_000, pytest.param(2_400, marks=pytest.mark.slow)])
def test_a_target_size_is_met_on_the_files_bytes(target: int) -> None:
    stored = compress_v4(zoo_network(), natural_noise(32, 32), target_size=target, options=QUICK)
    assert 0.99 * target <= len(codec.encode_model(stored, layout_of)) <= target


def test_what_cannot_be_reached_says_what_can() -> None:
    net, inputs = small_network(), pictures(16)
    with pytest.raises(OptionError, match=r"at least [\d,]+ bytes for this network"):
        compress_v4(net, inputs, target_size=100, options=QUICK)
    with pytest.raises(OptionError, match="one target"):
        compress_v4(net, inputs, target_size=100, max_drop=1.0)
    with pytest.raises(OptionError, match="points above 0"):
        compress_v4(net, inputs, max_drop=0.0, options=QUICK)


def test_a_drop_is_kept() -> None:
    net, inputs = small_network(), pictures()
    stored = compress_v4(net, inputs, max_drop=2.0, options=QUICK)
    again = small_network()
    again.load_state_dict(to_tensors(stored))
    assert accuracy_lost(net, again, inputs, None) <= 2.0


def test_weights_that_two_modules_share_are_stored_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6, bias=False)
            self.second = nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    stored = compress_v4(Twice(), torch.randn(64, 6), options=QUICK)
    assert stored.entries["second.weight"] == codec.Tied("first.weight")


def test_made_up_pictures_suit_the_network() -> None:
    net = zoo_network()
    found = synthetic_inputs(net, 32, 8)
    assert found.shape == (8, 3, 32, 32)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, natural_noise(8, 32))


def test_inputs_are_checked() -> None:
    inputs, labels = gather_inputs([(torch.randn(4, 2), torch.arange(4)), (torch.randn(4, 2), torch.arange(4))], most=6)
    assert inputs.shape == (6, 2)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 0, 1]
    for wrong in ([], ["no"], [torch.full((2, 2), float("nan"))]):
        with pytest.raises(DataError, match="calibration"):
            gather_inputs(wrong)
    with pytest.raises(OptionError, match="inputs, for a network that is not in the zoo"):
        compress_v4(small_network())


def test_without_inputs_the_defaults_are_others() -> None:
    assert v4_options(calibrated=False).learning.steps == 0
    assert v4_options(calibrated=True, steps=7).learning == LearnOptions(steps=7)
    assert v4_options(calibrated=True, rest_bits=10).rest_bits == 10


def test_options_validate_themselves() -> None:
    for make in (lambda: LearnOptions(divergence=0.0), lambda: LearnOptions(steps=-1), lambda: V4Options(rest_bits=1)):
        with pytest.raises(OptionError):
            make()
