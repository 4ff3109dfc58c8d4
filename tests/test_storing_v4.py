"""Version 4: what becomes of a whole network."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mess
from learned_networks import deciding_network, divergence, pictures, small_network
from mess import codec
from mess.arithmetic.step_exponents import Exponents
from mess.codec import inspect_file
from mess.errors import DataError, OptionError, RangeError
from mess.models.described import layout_of
from mess.scheme.learned import Learned, LearnedLayer, LearnOptions, gather_inputs, learn
from mess.scheme.learned import inputs as inputs_module
from mess.scheme.learned.inputs import natural_noise
from mess.storing import Request, StoreOptions, compress, identify, load_into, to_stored, to_tensors
from mess.storing.entries import Coded
from mess.storing.held_out import HeldOut, accuracy_lost, hold_out, predict
from mess.storing.learned import coded
from mess.storing.look import Look
from mess.storing.rate import Search, to_divergence

QUICK = {"divergence": 0.02}


def stored_v4(net: nn.Module, inputs=None, **options) -> codec.StoredModel:
    """What a file of version 4 says."""
    return to_stored(identify(net), Request(StoreOptions("v4", **options), inputs))


def test_a_whole_network_of_ones_own(tmp_path) -> None:
    net = small_network()
    before = copy.deepcopy(net.state_dict())
    stored = stored_v4(
        net, [(pictures(32), torch.zeros(32).long()), (pictures(16, 2), torch.zeros(16).long())], **QUICK
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    codec.write_model(tmp_path / "net.mess", stored)
    found = to_tensors(codec.read_model(tmp_path / "net.mess"))
    assert found.keys() == before.keys()
    again = small_network(1)
    again.load_state_dict(found)
    unseen = pictures(40, 5)
    with torch.no_grad():
        assert float(divergence(again.eval()(unseen), net(unseen))) < 0.2
    assert (tmp_path / "net.mess").stat().st_size < sum(t.numel() for t in before.values()) * 4 / 4


def test_other_dtypes_come_back_as_they_were() -> None:
    net = small_network().to(torch.bfloat16)
    before = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    found = to_tensors(stored_v4(net, pictures(), **QUICK))
    assert {name: found[name].dtype for name in before} == before


def test_the_report_tells_of_every_tensor(tmp_path) -> None:
    net = small_network()
    made = compress(net, tmp_path / "net.mess", "v4", pictures(), **QUICK)
    norms = ["1", "4", "7", "10"]  # each stands for its five tensors
    assert sorted([*made.error, *(name for name, _ in made.as_is)]) == sorted(
        [*norms, *(name for name in net.state_dict() if name.split(".")[0] not in norms)]
    )
    assert made.error.keys() == {"0.weight", "3.weight", "6.weight", "9.weight", "14.weight"}
    assert made.float_bytes == sum(t.numel() * t.element_size() for t in net.state_dict().values())


def test_the_same_twice_gives_the_same_bytes() -> None:
    one, other = (codec.encode_model(stored_v4(small_network(), pictures(), **QUICK)) for _ in range(2))
    assert one == other


def test_smaller_divergence_is_nearer_and_larger() -> None:
    net, inputs = small_network(), pictures()

    def outcome(nats: float) -> tuple[int, float]:
        learned = learn(net, inputs, LearnOptions(divergence=nats))
        with torch.no_grad():
            error = float(divergence(learned.model(inputs), net(inputs)))
        stored = stored_v4(net, inputs, divergence=nats)
        return len(codec.encode_model(stored)), error

    (small, far), (large, near) = outcome(0.3), outcome(0.003)
    assert small < large
    assert near < far


@pytest.mark.parametrize(
    ("strays", "met", "count", "rates", "kept"),
    [
        (1.0, True, 200, [0.01], 0),  # as asked
        (3.0, True, 200, [0.01, 0.01 / 3], 1),  # too far: finer
        (lambda rate: 3 * (0.01 / rate) ** 0.5, True, 200, [0.01, 0.01 / 3, 0.01 / 9], 2),  # and finer still
        (0.55, True, 200, [0.01, 0.01 / 0.55], 1),  # much less: coarser
        (0.01, True, 200, [0.01, 0.02], 1),  # but not by a lot
        (0.4, True, 40, [0.01], 0),  # of few inputs that it was learned from
        (0.4, False, 200, [0.01], 0),  # no rate was named
        (lambda rate: 0.55 if rate == 0.01 else 2.0, True, 200, [0.01, 0.01 / 0.55], 0),  # coarser is too far
        (lambda rate: 0.55 if rate == 0.01 else math.inf, True, 200, [0.01, 0.01 / 0.55], 0),  # coarser is no number
    ],
)
def test_a_file_strays_as_far_as_it_may(
    strays, met: bool, count: int, rates: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def rounded_at(_self: Search, rate: float, _what: str) -> Coded:
        tried.append(rate)
        return Coded([], {}, {"round": len(tried) - 1}, {}, {})

    def look(_self: Search, _coded: Coded) -> Look:
        found = tried[-1] * (strays(tried[-1]) if callable(strays) else strays)
        if math.isinf(found):
            raise RangeError("answers")
        return Look(200, found, 99.0)

    monkeypatch.setattr(Search, "rounded_at", rounded_at)
    monkeypatch.setattr(Search, "look", look)
    inputs = torch.zeros(count, 3)
    search = Search(nn.Identity(), inputs, HeldOut(inputs, None), LearnOptions(), None, None, None)  # type: ignore[arg-type]
    found = to_divergence(search, 0.01, met=met)
    assert tried == pytest.approx(rates)
    assert found.facts == {"round": kept}
    assert found.look is not None
    assert found.look.divergence <= 1.25 * 0.01


def test_the_coarsest_rate_there_is_may_stray_less_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "rounded_at", lambda *_: Coded([], {}, {}, {}, {}))
    monkeypatch.setattr(Search, "look", lambda *_: Look(200, 0.5, 60.0))
    inputs = torch.zeros(200, 3)
    search = Search(nn.Identity(), inputs, HeldOut(inputs, None), LearnOptions(), None, None, None)  # type: ignore[arg-type]
    found = to_divergence(search, 10.0, met=True)
    assert found.look == Look(200, 0.5, 60.0)


@pytest.mark.parametrize(
    ("layers", "target"), [(8, 4_500), *(pytest.param(20, x, marks=pytest.mark.slow) for x in (2_400, 12_000))]
)
def test_a_target_size_is_met_on_the_files_bytes(layers: int, target: int) -> None:
    torch.manual_seed(0)
    net = mess.create_model("resnet", dataset="cifar10", layers=layers, width_mult=0.5).eval()
    stored = stored_v4(net, natural_noise(32, 32), target_size=target, **QUICK)
    assert 0.99 * target <= len(codec.encode_model(stored, layout_of)) <= target


def test_a_file_says_what_it_answers_on_inputs_that_nothing_was_learned_from(tmp_path) -> None:
    net = deciding_network()
    few, many = (compress(net, tmp_path / "net.mess", calibration=pictures(n), verify=False) for n in (255, 256))
    assert (few.look.inputs, few.look.held_out) == (255, False)
    assert (many.look.inputs, many.look.held_out) == (32, True)
    assert "32 inputs held out" in str(many)
    assert inspect_file(tmp_path / "net.mess").scheme["look"]["held_out"] == 32


def test_inputs_are_held_out_of_all_classes() -> None:
    classes = torch.arange(10).repeat_interleave(40)
    learned, held_out = hold_out(classes.float()[:, None], classes, 8)
    assert (len(learned), len(held_out.inputs)) == (350, 50)
    assert set(held_out.labels.tolist()) == set(range(10))
    assert torch.equal(torch.cat([learned[:, 0], held_out.inputs[:, 0]]).sort().values, classes.float())


def test_what_cannot_be_reached_says_what_can() -> None:
    net, inputs = small_network(), pictures(16)
    with pytest.raises(OptionError, match=r"at least [\d,]+ bytes for this network"):
        stored_v4(net, inputs, target_size=100, **QUICK)
    with pytest.raises(OptionError, match="one target"):
        stored_v4(net, inputs, target_size=100, max_drop=1.0)
    with pytest.raises(OptionError, match="points above 0"):
        stored_v4(net, inputs, max_drop=0.0, **QUICK)
    with pytest.raises(OptionError, match="at least 4 calibration inputs, found 3"):
        stored_v4(net, inputs[:3], max_drop=1.0, **QUICK)


def test_a_drop_is_kept() -> None:
    net, inputs = deciding_network(), pictures(400)
    right = predict(net, inputs).argmax(1)
    _, held_out = hold_out(inputs, right, 4)
    coarse, fine = (stored_v4(net, [(inputs, right)], max_drop=d, rest_bits=12, **QUICK) for d in (30.0, 4.0))
    assert len(codec.encode_model(coarse)) < len(codec.encode_model(fine))
    for stored, drop in ((coarse, 30.0), (fine, 4.0)):
        again = deciding_network()
        again.load_state_dict(to_tensors(stored))
        assert accuracy_lost(predict(net, held_out.inputs), again.eval(), held_out) <= drop


def wide_classifier() -> nn.Module:
    """200 classes told from 384 numbers a picture: far more than eight pictures show."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 384, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(384, 200))
    with torch.no_grad():
        scores_NK = net(pictures(300, 9))
        net[-1].weight.div_(scores_NK.std(0)[:, None] / 4)
        net[-1].bias.sub_(scores_NK.mean(0)).div_(scores_NK.std(0) / 4)
    return net.eval()


def sure_network() -> nn.Module:
    """One that gives nearly all its trust to one class of every picture."""
    net = deciding_network()
    with torch.no_grad():
        net[-1].weight.mul_(20)
        net[-1].bias.mul_(20)
    return net


@pytest.mark.parametrize(("make", "count"), [(wide_classifier, 8), (wide_classifier, 1), (sure_network, 200)])
def test_a_stored_network_answers_like_the_float_one_or_is_refused(make, count: int, tmp_path) -> None:
    net, unseen = make(), pictures(400, 11)
    try:
        report = compress(net, tmp_path / "net.mess", calibration=pictures(count, 12))
    except OptionError as error:
        assert "--divergence: expected at least" in str(error)  # noqa: PT017 - one of two right outcomes
        assert not (tmp_path / "net.mess").exists()
        return
    again = load_into(copy.deepcopy(net), tmp_path / "net.mess")
    assert float(divergence(predict(again, unseen), predict(net, unseen))) < 0.05  # these have no margins to agree by
    assert report.look is not None
    assert report.look.divergence <= 1.25 * LearnOptions().divergence


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy pictures of 200 classes, and which class each is of."""
    prototypes_KCHW = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    dice = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(0, 200, (count,), generator=dice)
    return prototypes_KCHW[labels_N] + torch.randn(count, 3, 8, 8, generator=dice), labels_N


def classifier_of_examples() -> nn.Module:
    """200 classes told apart by a linear layer of 1,536 numbers each: that of the nearest mean, which is right."""
    torch.manual_seed(3)
    features = nn.Sequential(nn.Conv2d(3, 384, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    net = nn.Sequential(*features, nn.Linear(1536, 200))
    inputs, labels_N = examples(2000, 1)
    with torch.no_grad():
        found_NF = features(inputs)
        means_KF = torch.stack([found_NF[labels_N == label].mean(0) for label in range(200)])
        middle_F, scale = means_KF.mean(0), 0.0015 / (found_NF - means_KF[labels_N]).var()
        net[-1].weight.copy_(scale * (means_KF - middle_F))
        net[-1].bias.copy_(-scale * ((means_KF - middle_F) * (means_KF + middle_F)).sum(1) / 2)
    return net.eval()


@pytest.mark.parametrize("count", [8, 1])
def test_a_wide_classifier_decides_the_same_after_a_look_at_few_of_its_pictures(count: int, tmp_path) -> None:
    net, (unseen, labels_N) = classifier_of_examples(), examples(600, 2)
    report = compress(net, tmp_path / "net.mess", calibration=examples(count, 5)[0], verify=False)
    was_N = predict(net, unseen).argmax(1)
    found_N = predict(load_into(copy.deepcopy(net), tmp_path / "net.mess"), unseen).argmax(1)
    assert (was_N == labels_N).float().mean() > 0.99
    assert (found_N == was_N).float().mean() >= 0.99
    assert report.bytes < report.float_bytes / 8


def test_what_was_seen_of_a_file_is_in_it(tmp_path) -> None:
    report = compress(deciding_network(), tmp_path / "net.mess", calibration=pictures(64))
    assert inspect_file(tmp_path / "net.mess").scheme["look"] == report.look.facts()
    assert report.look.facts()["inputs"] == 64
    assert not report.look.is_noise


def test_weights_without_a_network_are_rounded_finely_and_not_looked_at(tmp_path) -> None:
    net = deciding_network()
    report = compress(net.state_dict(), tmp_path / "net.mess")
    assert report.look is None
    assert all(error < 3e-5 for error in report.error.values())
    again = load_into(copy.deepcopy(net), tmp_path / "net.mess")
    inputs = pictures(300)
    before, after = predict(net, inputs), predict(again, inputs)
    assert float((after - before).square().sum() / (before - before.mean(0)).square().sum()) < 0.05


def test_labels_say_what_is_lost_where_there_are_some() -> None:
    net, inputs = deciding_network(), pictures(50)
    before = predict(net, inputs)
    right = before.argmax(1)
    other = small_network(1)
    agreeing = 100 * float((predict(other, inputs).argmax(1) == right).float().mean())
    assert accuracy_lost(before, other, HeldOut(inputs, right)) == pytest.approx(100 - agreeing)
    assert accuracy_lost(before, net, HeldOut(inputs, None)) == 0.0


def test_weights_that_two_modules_share_are_stored_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6, bias=False)
            self.second = nn.Linear(6, 6, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    stored = stored_v4(Twice(), torch.randn(64, 6), **QUICK)
    assert stored.entries["second.weight"] == codec.Tied("first.weight")


def test_inputs_are_checked() -> None:
    inputs, labels = gather_inputs([(torch.randn(4, 2), torch.arange(4)), (torch.randn(4, 2), torch.arange(4))], most=6)
    assert inputs.shape == (6, 2)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 0, 1]
    for wrong in ([], ["no"], [torch.full((2, 2), float("nan"))]):
        with pytest.raises(DataError, match="calibration"):
            gather_inputs(wrong)


def test_labels_stay_with_inputs_that_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "MAX_INPUTS", 10)
    monkeypatch.setattr(inputs_module, "SMALL_NUMBERS", 0)  # all inputs are large
    inputs, labels = gather_inputs([(torch.randn(4, 2), torch.arange(4))] * 5)
    assert inputs.shape == (10, 2)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_what_is_not_said_has_defaults() -> None:
    assert StoreOptions("v4").learning() == LearnOptions()
    assert StoreOptions("v4", seed=7).learning() == LearnOptions(seed=7)
    assert StoreOptions("v4", rest_bits=10).rest == 10
    assert StoreOptions("v4").rest is None  # each vector what it is worth


def test_options_validate_themselves() -> None:
    for wrong in ({"divergence": 0.0}, {"rest_bits": 1}, {"scale_bits": 8}, {"quant": True}):
        with pytest.raises(OptionError):
            StoreOptions("v4", **wrong)
    with pytest.raises(OptionError, match="--target-size: expected v4 beside it"):
        StoreOptions("v2", target_size=1000)


def test_a_channel_that_never_varies_takes_no_bits_from_the_others() -> None:
    net = deciding_network()
    norm = net[1]
    with torch.no_grad():
        net[0].weight[3] = 0.0  # as training with a price leaves channels
        norm.running_mean[3], norm.running_var[3] = 0.0, 1e-40
    inputs = pictures(100)
    again = deciding_network()
    again.load_state_dict(to_tensors(stored_v4(net, inputs, divergence=1e-4)))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert scale[3].abs() > 100 * scale[:3].abs().max()
    with torch.no_grad():
        torch.testing.assert_close(again[:3].eval()(inputs), net[:3](inputs), rtol=0.1, atol=0.1)


def test_a_layer_whose_steps_float32_cannot_hold_is_kept() -> None:
    weights = {"w": torch.randn(2, 3)}
    integers, columns = torch.ones(2, 3, 1, dtype=torch.int32), np.array([-8, 0, 9])
    for step, kept in ((1e-38, True), (1e-3, False)):
        layer = LearnedLayer(integers, step, None, (2, 3), integers, Exponents(None, columns, None))
        found = coded(Learned({"w": layer}, {}, nn.Module()), identify(weights))
        assert ("w" not in found.entries) == kept
        assert not kept or torch.equal(found.settled["w"], weights["w"])


def test_what_was_found_of_a_network_serves_another_rate_and_stays() -> None:
    net, weighed = small_network(), {}
    options = [LearnOptions(0.01), LearnOptions(0.1, finer={"9.weight": 2.0}), LearnOptions(0.01)]
    for own in options:
        again, fresh = learn(net, pictures(), own, weighed=weighed), learn(net, pictures(), own)
        for name, layer in fresh.layers.items():
            assert torch.equal(again.layers[name].integers_OCT, layer.integers_OCT), name
    assert len(weighed) == 1
