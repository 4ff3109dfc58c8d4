"""Version 4: what layers see, and how much what they answer matters."""

from __future__ import annotations

import copy
import threading
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from learned_networks import deciding_network, divergence, pictures, small_network
from mess.scheme.learned import curvature as curvature_module
from mess.scheme.learned import layers as layers_module
from mess.scheme.learned import layerwise as passes_module
from mess.scheme.learned import moments as moments_module
from mess.scheme.learned.curvature import with_curvature
from mess.scheme.learned.layers import WeightLayer, weight_layers
from mess.scheme.learned.layerwise import LayerwiseForward, split_batches
from mess.scheme.learned.moments import Moments, asymmetric_target, joined, second_moments, shrink_
from mess.scheme.learned.outputs import known_outputs, tensors
from mess.scheme.learned.passes import ForwardPass
from mess.scheme.learned.sensitivity import Sensitivity, output_sensitivity
from mess.scheme.learned.step_sizes import shrinkage


def sensitivity_of(net: nn.Module, inputs: Tensor, seed: int = 0) -> Sensitivity:
    return output_sensitivity(net, weight_layers(net, inputs[:1]), inputs, known_outputs(net, inputs), seed=seed)


def test_sensitive_channels_are_those_that_matter() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[3].weight[:, 2] = 0.0
    assert sensitivity_of(net, pictures()).channels["0.weight"].argmin() == 2


def test_what_errors_of_a_kernel_add_up_to_over_an_image_is_foretold() -> None:
    """Counted place by place, an error that is alike at all places of an image seems many times too cheap."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 1, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    inputs = pictures(300) + 1.0
    (output,), seen = known_outputs(net, inputs), sensitivity_of(net, inputs)
    layers, noisy = weight_layers(net, inputs[:1]), copy.deepcopy(net)
    error_n = torch.rand(27)
    with torch.no_grad():
        noisy[0].weight.add_(error_n.reshape(1, 3, 3, 3))
        found = output.nats * float((noisy(inputs) - net(inputs)).square().sum(1).mean())
    batches = split_batches(inputs)
    one, other = LayerwiseForward(net, layers, batches), LayerwiseForward(net, layers, batches)
    apart = joined(second_moments(one, other, layers[0], layers[0].weight.detach())[0])
    g_GR, e_n = seen.channels["0.weight"].reshape(1, 1), error_n.double()
    by_place = 0.5 * float(g_GR * (e_n @ apart.own_Gnn[0] @ e_n))
    together_Gnn = with_curvature(apart.own_Gnn, seen.curvature["0.weight"], g_GR)
    expected = 0.5 * float(g_GR * (e_n @ together_Gnn[0] @ e_n))
    assert 10 * by_place < found
    assert expected == pytest.approx(found, rel=0.25)


def test_mixtures_of_rows_say_on_average_what_all_rows_do(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 5))
    inputs = pictures(400)
    some = sensitivity_of(net, inputs).curvature["0.weight"]
    monkeypatch.setattr(curvature_module, "MIXTURES", 40)
    every = sensitivity_of(net, inputs).curvature["0.weight"]
    assert some.inputs == every.inputs == 400
    assert not torch.equal(some.halves_2Gnn, every.halves_2Gnn)
    for mixed_Gnn, all_Gnn in zip(some.halves, every.halves, strict=True):
        assert float((mixed_Gnn - all_Gnn).norm()) < 0.15 * float(all_Gnn.norm())


def test_a_layer_of_one_place_or_of_two_products_has_no_curvature_of_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(self.conv(x)).mean((2, 3)))

    assert not sensitivity_of(Twice(), pictures(20)).curvature


def test_frozen_weights_and_other_outputs_are_seen_too() -> None:
    net = nn.Conv2d(3, 4, 3).requires_grad_(False)
    assert (sensitivity_of(net, pictures()).channels["weight"] > 0).all()
    assert not any(p.requires_grad for p in net.parameters())


def test_how_sure_a_network_is_of_its_pictures_does_not_tell() -> None:
    """The divergence that is expected of a changed last layer is the one that other pictures see, within 4 times."""
    net, inputs = deciding_network(), pictures(200)
    with torch.no_grad():
        net[-1].weight.mul_(20.0)
        net[-1].bias.mul_(20.0)
    g_O, seen = sensitivity_of(net, inputs).channels["14.weight"], []
    net[-1].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    others, noisy = pictures(400, 7), copy.deepcopy(net)
    noise = 0.02 * net[-1].weight.std() * torch.randn(net[-1].weight.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy[-1].weight.add_(noise)
        found = float(divergence(noisy(others), net(others)))
        expected = 0.5 * float((g_O * (seen[-1] @ noise.T).square().mean(0)).sum())
    assert found / 4 < expected < 4 * found


def test_answers_of_any_kind_are_known() -> None:
    class Nest(nn.Module):
        def forward(self, x: Tensor) -> dict[str, object]:
            return {"a": (x * 5, [x[:, 0]]), "number": x.shape[0], "classes": x.argmax(1)}

    inputs = torch.randn(64, 6)
    outputs = known_outputs(Nest(), inputs)
    assert len(outputs) == 2
    answer = tensors(Nest()(inputs))
    for output, x in zip(outputs, answer, strict=True):  # noise as large as what they say counts as 1, over both
        error = x.std() * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
        assert output.scores or float(output.strayed(output.told(x), output.told(x + error))) == pytest.approx(
            1.0, rel=0.4
        )
        assert output.scores or output.nats == output.relative / 2


def test_targets_are_the_weights_where_nothing_has_changed() -> None:
    net = small_network()
    layers = weight_layers(net, pictures(1))
    one, other = LayerwiseForward(net, layers, [pictures()]), LayerwiseForward(net, layers, [pictures()])
    moments = joined(second_moments(one, other, layers[1], layers[1].weight.detach())[0])
    weight = layers[1].matrix(layers[1].weight.detach().double())
    shrink_(moments, 0.01, weight)
    torch.testing.assert_close(asymmetric_target(moments, weight), weight, rtol=1e-3, atol=1e-5)


def test_moments_that_rounding_left_below_no_variance_are_shrunk_until_they_can_be_used() -> None:
    own = torch.ones(1, 60, 60).double() - 0.05 * torch.eye(60)  # as of inputs with a large mean, summed in float32
    weight = torch.randn(1, 4, 60, generator=torch.Generator().manual_seed(0)).double()
    halves = [Moments(own.clone(), own @ weight.mT, 1000) for _ in range(2)]
    assert shrinkage(halves) > 0.03
    torch.testing.assert_close(asymmetric_target(halves[0], weight), weight)


def test_few_inputs_shrink_more_than_many() -> None:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(40, 40, generator=draw).double() * torch.logspace(0, -2, 40)[:, None]

    def halves(count: int) -> list[Moments]:
        made = [torch.randn(count, 40, generator=draw).double() @ mixing.T for _ in range(2)]
        return [Moments((x.T @ x / count)[None], torch.zeros(1, 40, 1).double(), count) for x in made]

    assert shrinkage(halves(10)) > 10 * shrinkage(halves(1000))
    assert shrinkage(halves(10)[:1]) == 1.0


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
    module, found = net.get_submodule(layer.name.removesuffix(".weight")), []
    hook = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    for batch in batches:
        net(batch)
    hook.remove()
    if isinstance(module, nn.Linear):
        return torch.cat(found)[None]
    cut = [nn.functional.unfold(x, module.kernel_size, 1, module.padding, module.stride) for x in found]
    return torch.cat(cut).permute(0, 2, 1).flatten(0, 1).unflatten(1, (layer.groups, -1)).transpose(0, 1)


class HalfSeen(nn.Module):
    """Views, changes in place, several results at once, and a part whose functions Python does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 3))
        self.unseen = torch.jit.trace(nn.GELU(), torch.zeros(1, 3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        around = x = self.first(x)
        x = self.second(x.relu()).mul_(2.0)
        x += around
        values, _ = x.max(1, keepdim=True)
        left, right = (x - values).chunk(2, dim=1)
        return self.third(self.unseen(left) + right.sigmoid_()).mean((2, 3))


class Changing(nn.Module):
    """Calls another function each time it runs, to the same effect."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.first, self.second, self.third = (nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        x = self.first(x)
        x = x.relu() if self.runs % 2 else torch.relu(x)
        return self.third(self.second(x).relu()).mean((2, 3))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("bytes_waiting", "widest"), [(1 << 29, 4608), (6_000, 4608), (0, 4608), (1 << 29, 20)])
@pytest.mark.parametrize("make", [small_network, Tangled, HalfSeen, Changing])
def test_passes_that_wait_show_what_whole_passes_do(make, bytes_waiting: int, widest: int, monkeypatch) -> None:
    monkeypatch.setattr(passes_module, "WAITING_BYTES", bytes_waiting)
    monkeypatch.setattr(moments_module, "FLOAT32_TERMS", 100)  # so that sums in float32 end within a layer
    monkeypatch.setattr(moments_module, "MIN_PLACES", 1 << 20)  # all of them
    monkeypatch.setattr(layers_module, "WIDEST", widest)
    monkeypatch.setattr(layers_module, "SPAN", widest)
    torch.manual_seed(0)
    net, batches, threads = make().eval(), list(pictures(12).split(5)), threading.active_count()
    float_net = copy.deepcopy(net)
    layers, twins = weight_layers(net, batches[0][:1]), weight_layers(float_net, batches[0][:1])
    stored, original = LayerwiseForward(net, layers, batches), LayerwiseForward(float_net, twins, batches)
    for layer, twin in zip(layers, twins, strict=True):
        assert threading.active_count() == threads
        x_GNn, y_GNn = seen(net, layer, batches).double(), seen(float_net, twin, batches).double()
        weight = layer.weight.detach().clone()
        spans = second_moments(stored, original, layer, twin.weight)
        sizes = [halves[0].own_Gnn.shape[1] for halves in spans]
        assert (sum(sizes), max(sizes) <= widest) == (weight[0].numel(), True)
        for span, halves in zip(layer.spans, spans, strict=True):
            moments, x_GNm, y_GNm = joined(halves), x_GNn[..., span], y_GNn[..., span]
            torch.testing.assert_close(moments.own_Gnn, x_GNm.mT @ x_GNm / x_GNn.shape[1], rtol=1e-4, atol=1e-5)
            answers_GNR = y_GNm @ layer.matrix(twin.weight.double())[..., span].mT
            wanted = x_GNm.mT @ answers_GNR / x_GNn.shape[1]
            torch.testing.assert_close(moments.cross_GnR, wanted, rtol=1e-4, atol=1e-5)
        layer.weight.data = weight * (1 + 0.3 * torch.rand_like(weight))
        stored.settle(layer.name)
        original.settle(layer.name)


def test_an_error_in_the_network_comes_out_of_a_pass() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such thing")

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Breaks(), nn.Conv2d(4, 4, 1))
    layers = [WeightLayer(f"{i}.weight", net[i].weight, calls=1) for i in (0, 2)]
    made = LayerwiseForward(net, layers, [pictures()])
    assert made.calls(0, "0.weight")[0].input.shape == (48, 3, 8, 8)
    made.settle("0.weight")
    with pytest.raises(ValueError, match="no such thing"):
        made.calls(0, "2.weight")


class Ran(TorchFunctionMode):
    """Counts what is computed; around a pass it sees what the pass lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.counts[func.__name__] += func.__name__ in ("conv2d", "batch_norm", "relu", "linear")
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_a_pass_that_waits_runs_nothing_twice_and_holds_what_the_network_does() -> None:
    net, batch, settled, stops = small_network(), pictures(5), set(), []
    going = ForwardPass(net, batch, {id(p): name for name, p in net.named_parameters()}, settled)
    with Ran() as plain:
        net(batch)
    with Ran() as ran:
        while going.advance():
            stops.append(going.at)
            assert going.seen is not None
            # the network holds what it hands to the layer; the batch itself is not the pass's
            assert going.nbytes == (0 if going.at == "0.weight" else going.seen.input.untyped_storage().nbytes())
            settled.add(going.at)
    assert stops == [f"{place}.weight" for place in (0, 3, 6, 9, 14)]
    assert ran.counts == plain.counts


class Reading(nn.Module):
    """Reads attributes of tensors, as most networks of others do, and runs on a fresh object of each every time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            assert x.shape[1] == 3
            x = layer(x.to(device=x.device, dtype=x.dtype)).mT
        return x.flatten(1)


@torch.no_grad()
@pytest.mark.parametrize("make", [small_network, Reading])
def test_networks_that_read_shapes_are_not_run_anew_for_each_layer(make) -> None:
    net, batch, settled = make(), pictures(5), set()
    going = ForwardPass(net, batch, {id(p): name for name, p in net.named_parameters()}, settled)
    while going.advance():
        settled.add(going.at)
    assert len(settled) == sum(p.dim() > 1 for p in net.parameters())


def test_large_inputs_come_in_small_batches() -> None:
    assert [len(x) for x in split_batches(torch.zeros(300, 3, 32, 32))] == [64, 64, 64, 64, 44]
    assert max(len(x) for x in split_batches(torch.zeros(1, 1, 1, 1).expand(20, 3, 224, 224))) == 4
