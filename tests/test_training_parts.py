"""The small pure pieces of training: schedules, optimizer groups, losses, weight average, BatchNorm, options, CSV."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mess
from mess import models
from mess.data import Batches, open_dataset
from mess.devices import Devices
from mess.errors import CheckpointError, OptionError
from mess.recipes import DataChoice, Job, RateChoice, SchemeChoice
from mess.recipes.teacher import Teacher, mixed, rate_teacher
from mess.storing import StoreOptions
from mess.training import CsvLog, EpochReport, TrainOptions, evaluate, refresh_statistics
from mess.training.ema import WeightAverage
from mess.training.log import read_log
from mess.training.losses import share_of_batch, summed_cross_entropy
from mess.training.optim import Sgd, load_state, param_groups, plain_state, prepare_capture, set_lr
from mess.training.schedule import lr_at
from training_fakes import FakeBatches, digest, tiny


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TrainOptions(epochs=4, lr=1.0), {0: 1.0, 10: 0.853553, 20: 0.5, 30: 0.146447, 40: 0.0}),
        (TrainOptions(epochs=4, lr=1.0, schedule="step"), {0: 1.0, 19: 1.0, 20: 0.1, 29: 0.1, 30: 0.01, 39: 0.01}),
        (TrainOptions(epochs=4, lr=1.0, schedule="onecycle"), {0: 0.04, 6: 0.52, 12: 1.0, 40: 4e-6}),
        (TrainOptions(epochs=4, lr=1.0, warmup_epochs=1), {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 25: 0.5, 40: 0.0}),
    ],
    ids=["cosine", "step", "onecycle", "warm-up"],
)
def test_schedules_at_known_places(options: TrainOptions, expected: dict[int, float]) -> None:
    assert {step: lr_at(options, step, 10) for step in expected} == pytest.approx(expected, abs=1e-6)


def test_onecycle_is_torchs() -> None:
    options = TrainOptions(epochs=50, lr=0.3, schedule="onecycle")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=501, cycle_momentum=False)
    for step in range(500):  # they count from the middle of a step, so the two are a little apart
        assert lr_at(options, step, 10) == pytest.approx(theirs.get_last_lr()[0], abs=0.003)
        optimizer.step()
        theirs.step()


@settings(max_examples=30, deadline=None)
@given(schedule=st.sampled_from(["cosine", "step", "onecycle"]), step=st.integers(0, 400))
def test_a_rate_is_never_negative_nor_above_lr(schedule: str, step: int) -> None:
    assert 0 <= lr_at(TrainOptions(epochs=20, lr=0.1, schedule=schedule), step, 20) <= 0.1


def test_weight_decay_spares_batchnorm_and_biases() -> None:
    model = tiny()
    groups = param_groups(model, 5e-4)
    decayed = {id(p) for p in groups[0]["params"]}
    assert {n for n, p in model.named_parameters() if id(p) in decayed} == {"0.weight", "3.weight", "9.weight"}
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_the_optimizer_is_torchs_sgd_to_the_bit() -> None:
    for chosen in ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.0, "fused": True}):
        ends = []
        for kind in (Sgd, torch.optim.SGD):
            model = tiny(0.0)
            optimizer = kind(param_groups(model, 5e-4), lr=0.1, **chosen)
            for seed in range(3):
                optimizer.zero_grad()
                model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
                optimizer.step()
            ends.append((digest(model.state_dict()), str(optimizer.state_dict())))
        assert ends[0] == ends[1]
        assert torch.is_grad_enabled()


def test_the_state_of_an_optimizer_goes_from_one_form_to_the_other() -> None:
    """The captured form keeps its rates, and Adam's steps, as tensors; a checkpoint has numbers."""
    model = tiny(0.0)
    for kind, chosen in ((Sgd, {"momentum": 0.9}), (torch.optim.Adam, {})):
        plain, captured = (kind(param_groups(model, 0.0), lr=0.1, **chosen, fused=fused) for fused in (None, True))
        prepare_capture(captured, torch.device("cpu"))
        model(torch.randn(4, 3, 8, 8)).square().sum().backward()
        plain.step()
        load_state(captured, plain_state(plain))
        assert all(group["fused"] and torch.is_tensor(group["lr"]) for group in captured.param_groups)
        captured.step()
        kept = plain_state(captured)
        assert [group["lr"] for group in kept["param_groups"]] == pytest.approx([0.1, 0.1])
        load_state(plain, kept)
        assert all(group["fused"] is None and group["lr"] == pytest.approx(0.1) for group in plain.param_groups)
        plain.step()


def test_a_group_may_scale_its_rate() -> None:
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr_scale": 0.1}, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.05), 0.5]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), smoothing=st.sampled_from([0.0, 0.1]))
def test_uneven_parts_average_to_the_gradient_of_the_whole_batch(sizes: list[int], smoothing: float) -> None:
    torch.manual_seed(sum(sizes))
    total, world = sum(sizes), len(sizes)
    x_ND, labels_N = torch.randn(total, 4, dtype=torch.float64), torch.randint(0, 3, (total,))
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    whole = nn.functional.cross_entropy((x_ND @ weight).float(), labels_N, label_smoothing=smoothing)
    (expected,) = torch.autograd.grad(whole, weight)
    gradients = []
    for x, labels in zip(x_ND.split(sizes), labels_N.split(sizes), strict=True):
        loss = share_of_batch(summed_cross_entropy(x @ weight, labels, smoothing), total, world)
        gradients.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, rtol=1e-5, atol=1e-6)


def test_the_average_follows_its_formula_and_gives_the_weights_back_to_the_bit() -> None:
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked += 7
    average.update()  # decay = min(0.5, 2/11): 2/11 · 1 + 9/11 · 3
    own = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), torch.full((2,), 29 / 11))
        assert int(model.num_batches_tracked) == 7
    assert torch.equal(model.weight, own)


def test_batchnorm_gets_its_statistics_back_and_computes_the_same() -> None:
    model, batches = tiny(dropout=0.0), FakeBatches()
    torch.manual_seed(3)
    for layer in (model[1], model[4]):  # as it comes out of a .mess file: weight = scale·√(1 + eps), mean 0, var 1
        nn.init.normal_(layer.weight, 1.0, 0.3)
        nn.init.normal_(layer.bias)
    model.eval()
    before = model(batches.images_NCHW)
    assert refresh_statistics(model, batches, n=5) == 2
    assert not model.training
    torch.testing.assert_close(model(batches.images_NCHW), before, rtol=1e-5, atol=1e-5)
    x_CM = model[0](batches.images_NCHW).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_mean, x_CM.mean(1).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_var, x_CM.var(1).detach(), rtol=1e-4, atol=1e-5)
    model.train()  # on the images it was measured on, training starts from nearly the same function
    torch.testing.assert_close(model(batches.images_NCHW), before, rtol=0.05, atol=0.02)


def test_batchnorm_that_was_never_reached_is_left_alone() -> None:
    model = tiny()
    model.unused = nn.BatchNorm2d(3)
    model.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(model)[:-1]), x)
    assert refresh_statistics(model, FakeBatches(), n=1) == 2
    assert torch.equal(model.unused.running_mean, torch.zeros(3))


@pytest.mark.parametrize("look", ["evaluate", "refresh_statistics"])
@pytest.mark.parametrize("training", [True, False])
def test_each_module_keeps_its_own_mode(look: str, training: bool) -> None:
    """A frozen BatchNorm in a network in training stays frozen, one in training in a network in use likewise."""
    model = tiny().train(training)
    model[1].train(not training)
    modes = [module.training for module in model.modules()]
    batches = FakeBatches(train=False)
    if look == "evaluate":
        evaluate(model, batches, Devices())
    else:
        refresh_statistics(model, batches, n=1)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "--epochs: expected a number of at least 1, found 0"),
        ({"lr": float("nan")}, "--lr: expected a number above 0, found nan"),
        ({"momentum": 1.0}, "--momentum: expected 0 ≤ momentum < 1"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"ema": 1.0}, "--ema: expected 0 .off. or a decay below 1"),
        ({"warmup_epochs": 200}, "--warmup: expected from 0 to below 200 epochs"),
        ({"save_every": "10s"}, "--save-every: expected steps such as 500, or minutes such as 10m, found 10s"),
        ({"schedule": "onecycle", "warmup_epochs": 2}, "one-cycle schedule, which has its own"),
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainOptions(**wrong)


def test_saving_intervals() -> None:
    assert TrainOptions().saving_interval() == (None, None)
    assert TrainOptions(save_every="500").saving_interval() == (500, None)
    assert TrainOptions(save_every="1.5m").saving_interval() == (None, 90.0)


def test_an_explicit_flag_wins_over_the_checkpoint_and_is_told() -> None:
    saved = {**TrainOptions(lr=0.2, epochs=10).to_dict(), "from_another_version": 1}
    options = TrainOptions.resumed(saved, {"epochs": 20})
    assert (options.lr, options.epochs) == (0.2, 20)
    assert options.changes(saved) == ["--epochs is now 20 (the checkpoint has 10)"]


def report(epoch: int) -> EpochReport:
    return EpochReport(epoch, 9, 0.1, 1.5, 50.0, 1.4, 52.5, 90.0, 52.5, 1.0, float(epoch))


def test_the_csv_goes_on_where_a_resume_does(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for epochs_done, epochs in ((0, (1, 2, 3)), (2, (3, 4)), (4, (5,))):
        log = CsvLog(path, epochs_done)
        for epoch in epochs:
            log.append(report(epoch))
    lines = path.read_text().splitlines()
    assert lines[0].startswith("epoch,epochs,lr,train_loss")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    CsvLog(path, 0).append(report(1))
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("lacks", [1, 2], ids=["the best epoch", "and bits"])
def test_a_log_from_before_some_columns_were_there_goes_on(lacks: int, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    CsvLog(path).append(report(1))
    rows = [line.rsplit(",", lacks)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(rows) + "\n")
    CsvLog(path, 1).append(replace(report(2), bits=0.75, best_epoch=2))
    assert [(row.bits, row.best_epoch) for row in read_log(path)] == [(0.0, 0), (0.75, 2)]


def test_a_file_that_is_no_log_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\x00 something, else\n1,2\n")
    CsvLog(path, 5).append(report(6))
    assert len(path.read_text().splitlines()) == 2


def test_images_are_mixed_with_a_smaller_part_of_another_and_keep_their_labels() -> None:
    torch.manual_seed(0)
    images_NCHW = torch.eye(64).reshape(64, 1, 8, 8)  # each has a number of its own
    filled_NCHW, labels_N = torch.cat([images_NCHW, torch.full((3, 1, 8, 8), 9.0)]), torch.arange(64)
    found_NCHW, found_N = mixed(filled_NCHW, labels_N)
    assert torch.equal(found_N, labels_N)
    assert torch.equal(found_NCHW[64:], filled_NCHW[64:])  # what fills a batch up stays out of it
    shares_NN = found_NCHW[:64].flatten(1)
    own_N, other_N = shares_NN.diagonal(), shares_NN.roll(1, 1).diagonal()
    torch.testing.assert_close(own_N + other_N, torch.ones(64))
    assert own_N.min() >= 0.5
    assert 0.7 < own_N.mean() < 0.8
    assert torch.equal(mixed(filled_NCHW[:1], labels_N[:1])[0], filled_NCHW[:1])


@pytest.mark.parametrize("own", [((0.2, 0.3, 0.4), (0.5, 0.25, 0.125)), None])
def test_a_teacher_sees_images_as_its_own_file_says(own: tuple[tuple[float, ...], ...] | None, tmp_path: Path) -> None:
    """The learner's images get the teacher's mean and std, so that it says of them what it says in use."""
    torch.manual_seed(0)
    architecture = models.resolve("resnet", "digits", layers=8, width_mult=0.25)
    about = {} if own is None else dict(zip(("mean", "std"), own, strict=True))
    mess.compress(models.build(architecture), tmp_path / "t.mess", "v2", architecture=architecture, about=about)
    rate, data = RateChoice(teacher=str(tmp_path / "t.mess")), DataChoice("digits")
    scheme = SchemeChoice(store=StoreOptions("v4"), rate=rate)
    job = Job(data, architecture, TrainOptions(epochs=1), scheme=scheme, ckpt="learner.pth")
    teacher = rate_teacher(models.build(architecture), job, rate, data, resumed=None)
    assert teacher is not None
    resumed = rate_teacher(models.build(architecture), job, rate, data, resumed={"extra": teacher.state()})
    assert resumed is not None
    shown, seen = (
        next(iter(Batches(open_dataset("digits", train=False, mean=m, std=s), 8, train=False).epoch(0)))
        for m, s in ((None, None), own or (None, None))
    )
    with torch.no_grad():
        logits_NC = teacher.model(seen[0])
        assert float(teacher.loss("32")(logits_NC, *shown)) == pytest.approx(0, abs=1e-5)
        assert float(resumed.loss("32")(logits_NC, *shown)) == pytest.approx(0, abs=1e-5)


def test_a_resume_follows_the_teacher_it_is_told_and_else_its_own(tmp_path: Path) -> None:
    """What `--teacher` beside -R is said to be is what is learned from, also where labels were before."""
    torch.manual_seed(0)
    small, other = (models.resolve("resnet", "digits", layers=n, width_mult=0.25) for n in (8, 14))
    for name, network in (("small", small), ("other", other)):
        torch.save(models.build(network).state_dict(), tmp_path / f"{name}.pth")
    data, model = DataChoice("digits"), models.build(small)

    def layers(told: str | None, saved: str, extra: dict[str, object], *, typed: bool = True) -> int | None:
        """Return the layers of the teacher of a resumed run; None: it learns from labels."""
        rate = RateChoice(teacher=told)
        recipe = {"teacher": told} if typed else {}
        job = Job(
            data, small, TrainOptions(epochs=1), scheme=SchemeChoice(store=StoreOptions("v4"), rate=rate),
            mode="resume", recipe=recipe,
        )  # fmt: skip
        found = rate_teacher(model, job, rate, data, resumed={"extra": {**extra, "recipe": {"teacher": saved}}})
        return None if found is None else found.architecture.layers

    first, second = (str(tmp_path / f"{name}.pth") for name in ("small", "other"))
    kept = Teacher(models.build(small), small).state()
    assert layers(second, first, kept) == layers(second, "labels", {}) == 14
    assert layers("labels", first, kept) is None
    assert layers(None, "labels", {}, typed=False) is None
    (tmp_path / "small.pth").unlink()
    assert layers(first, first, kept) == layers(None, first, kept, typed=False) == 8
    with pytest.raises(CheckpointError, match=r"small\.pth"):
        layers(first, second, kept)
