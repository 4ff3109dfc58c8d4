"""Version 4: what layers see, and how much what they answer matters."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import Tensor, nn

from learned_networks import pictures, small_network
from mess.scheme.learned import layerwise as passes_module
from mess.scheme.learned import moments as moments_module
from mess.scheme.learned.layers import WeightLayer, weight_layers
from mess.scheme.learned.layerwise import LayerwiseForward, split_batches
from mess.scheme.learned.moments import asymmetric_target, second_moments
from mess.scheme.learned.sensitivity import output_sensitivity


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
    with (
        LayerwiseForward(net, layers, calls, [pictures()]) as one,
        LayerwiseForward(net, layers, calls, [pictures()]) as other,
    ):
        moment, cross = second_moments(one, other, layers[1])
    weight = layers[1].matrix(layers[1].module.weight.detach().double())
    torch.testing.assert_close(asymmetric_target(weight, moment, cross), weight, rtol=1e-3, atol=1e-5)


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
    monkeypatch.setattr(moments_module, "FLOAT32_TERMS", 100)  # so that sums in float32 end within a layer
    torch.manual_seed(0)
    net, batches = make().eval(), list(pictures(12).split(5))
    float_net = copy.deepcopy(net)
    layers, twins = weight_layers(net), weight_layers(float_net)
    _, calls = output_sensitivity(float_net, twins, torch.cat(batches))
    with (
        LayerwiseForward(net, layers, calls, batches) as stored,
        LayerwiseForward(float_net, twins, calls, batches) as original,
    ):
        for layer, twin in zip(layers, twins, strict=True):
            x_GNn, y_GNn = seen(net, layer, batches).double(), seen(float_net, twin, batches).double()
            moment, cross = second_moments(stored, original, layer)
            torch.testing.assert_close(moment, x_GNn.mT @ x_GNn / x_GNn.shape[1], rtol=1e-4, atol=1e-5)
            answers_GNR = y_GNn @ layer.matrix(layer.module.weight.double()).mT
            torch.testing.assert_close(cross, x_GNn.mT @ answers_GNR / x_GNn.shape[1], rtol=1e-4, atol=1e-5)
            assert asymmetric_target(layer.matrix(layer.module.weight.double()), moment, cross).isfinite().all()
            layer.module.weight.mul_(1 + 0.3 * torch.rand_like(layer.module.weight))
            stored.settle(layer.name)
            original.settle(layer.name)


def test_an_error_in_the_network_comes_out_of_a_pass_and_no_thread_stays() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such thing")

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Breaks(), nn.Conv2d(4, 4, 1))
    layers, before = weight_layers(net), threading.active_count()
    with LayerwiseForward(net, layers, {"0": 1, "2": 1}, [pictures()]) as made:
        assert made.inputs(0, "0")[0].shape == (48, 3, 8, 8)
        made.settle("0")
        with pytest.raises(ValueError, match="no such thing"):
            made.inputs(0, "2")
    assert threading.active_count() == before


def test_large_inputs_come_in_small_batches() -> None:
    assert [len(x) for x in split_batches(torch.zeros(300, 3, 32, 32))] == [64, 64, 64, 64, 44]
    assert max(len(x) for x in split_batches(torch.zeros(1, 1, 1, 1).expand(20, 3, 224, 224))) == 4


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
