"""Captured steps: on the CPU a tape stands for the CUDA graph, and has to agree to the bit with Python's own steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mess import models
from mess.cli import main
from mess.devices import Devices
from mess.models import Architecture
from mess.names import FAMILIES
from mess.recipes.hooks import scheme_hooks
from mess.recipes.job import DataChoice, Job, RateChoice, SchemeChoice
from mess.recipes.teacher import Teacher
from mess.scheme.learned import LearnOptions, learn
from mess.scheme.learned import training as rate_training
from mess.scheme.matched import penalties
from mess.storing import StoreOptions
from mess.training import Hooks, Reporter, TrainOptions, fit, loop
from mess.training import checkpoint as files
from mess.training.capture import WARM_UP, CapturedStep
from mess.training.run import Run
from tape import AgainDevices, NoWaits, Tape, TapeDevices
from training_fakes import FakeBatches, digest, tiny

OPTIONS = TrainOptions(epochs=3, batch_size=8, lr=0.05, print_freq=2, save_epoch=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Told(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.facts: dict[str, object] = {}

    def start(self, info: dict[str, object]) -> None:
        self.facts = info

    def message(self, text: str, kind: str = "info") -> None:
        if kind == "warning" and "kept in" not in text:
            self.warnings.append(text)


def train(
    folder: Path, devices: Devices, options: TrainOptions = OPTIONS, *, samples: int = 42, **more: Any
) -> tuple[dict[str, Any], Told]:
    """Return the last checkpoint; the last batch of an epoch has two images."""
    told, model = Told(), more.pop("model", None) or tiny()
    data = (FakeBatches(samples, options.batch_size), FakeBatches(17, 8, train=False))
    fit(model, *data, options, devices, checkpoint_dir=folder, reporter=told, **more)
    return files.load(folder / files.LAST), told


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert digest(a["state_dict"]) == digest(b["state_dict"])
    states = [list(c["optimizer"]["state"].values()) for c in (a, b)]
    for mine, other in zip(*states, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine if isinstance(mine[name], Tensor))
    assert (a["best_top1"], a["sums"], a["samples"]) == (b["best_top1"], b["sums"], b["samples"])
    if a["ema"]:
        assert digest(a["ema"]["state_dict"]) == digest(b["ema"]["state_dict"])


MODES = pytest.mark.parametrize(
    "options",
    [OPTIONS, replace(OPTIONS, ema=0.9, schedule="onecycle", label_smoothing=0.1), replace(OPTIONS, precision="bf16")],
    ids=["plain", "average, one-cycle", "bf16"],
)


@MODES
def test_replayed_steps_are_the_eager_ones_to_the_bit(tmp_path: Path, options: TrainOptions) -> None:
    devices = TapeDevices(options.precision)
    taped, told = train(tmp_path / "tape", devices, options)
    assert devices.replays == 3 * 5 - WARM_UP + 1  # of 8 images each; and one to compare
    again, _ = train(tmp_path / "again", AgainDevices(options.precision), options)
    same(taped, again)
    assert told.warnings == []
    assert "captured" in str(told.facts["steps"])
    eager, told = train(tmp_path / "eager", TapeDevices(options.precision), replace(options, eager=True))
    torch.testing.assert_close(taped["state_dict"], eager["state_dict"], rtol=0.05, atol=0.02)  # another optimizer's
    assert "steps" not in told.facts
    assert torch.is_tensor(taped["optimizer"]["param_groups"][0]["lr"]) is False


def test_a_captured_run_stopped_in_an_epoch_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    options = replace(OPTIONS, ema=0.9, deterministic=True)
    whole, _ = train(tmp_path / "whole", TapeDevices(), options)
    resumed = None
    for at in (5, 6, 100):
        stopped, told = train(tmp_path / "parts", TapeDevices(), options, hooks=stopping(at), resume_from=resumed)
        resumed = stopped
        assert told.warnings == []
    same(resumed, whole)


def test_captured_and_eager_runs_resume_one_another(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", Devices())
    resumed = None
    for devices, at in ((TapeDevices(), 5), (Devices(), 4), (TapeDevices(), 100)):
        resumed, told = train(tmp_path / "parts", devices, hooks=stopping(at), resume_from=resumed)
        assert told.warnings == []
    torch.testing.assert_close(resumed["state_dict"], whole["state_dict"], rtol=0.05, atol=0.02)
    assert resumed["samples"] == whole["samples"] == 126


def stopping(at: int) -> Hooks:
    steps = 0

    def after_step(_model: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGTERM)

    return Hooks(after_step=after_step)


@pytest.mark.parametrize("noticed", [True, False], ids=["while it warms up", "by recording"])
def test_a_step_that_waits_for_the_device_is_done_eagerly_and_that_is_said_once(tmp_path: Path, noticed: bool) -> None:
    class Blind(TapeDevices):
        def waits(self) -> AbstractContextManager[list[str]]:
            return super().waits() if noticed else nullcontext([])

    def penalty(model: nn.Module) -> Tensor:
        return model[0].weight.sum() * float(model[0].weight.detach().sum())

    hooks = Hooks(penalty=penalty)
    taped, told = train(tmp_path / "tape", Blind(), hooks=hooks)
    expected = "it waits for the GPU (aten._local_scalar" if noticed else "it cannot be recorded (aten._local_scalar"
    assert len(told.warnings) == 1
    assert expected in told.warnings[0]
    again = AgainDevices()
    again.waits = lambda: nullcontext([])
    same(taped, train(tmp_path / "again", again, hooks=hooks)[0])
    assert again.replays > 10


def test_a_replay_that_ends_elsewhere_is_noticed(tmp_path: Path) -> None:
    class Deaf(AgainDevices):
        """Leaves the learning rate where it was when it recorded."""

        def record(self, function: Callable[[], object]) -> Callable[[], None]:
            groups = next(o for o in optimizers).param_groups
            rates = [float(group["lr"]) for group in groups]

            def replay() -> None:
                now = [float(group["lr"]) for group in groups]
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"].fill_(rate)
                function()
                for group, rate in zip(groups, now, strict=True):
                    group["lr"].fill_(rate)

            return replay

    optimizers: list[torch.optim.Optimizer] = []

    def make(model: nn.Module, options: TrainOptions, captured: bool) -> torch.optim.Optimizer:
        optimizers.append(torch.optim.SGD(model.parameters(), lr=options.lr, fused=captured or None))
        return optimizers[-1]

    deaf, told = train(tmp_path / "deaf", Deaf(), hooks=Hooks(optimizer=make))
    assert len(told.warnings) == 1
    assert "replayed, it ends 50.0% of its way from where an eager one does" in told.warnings[0]
    optimizers.clear()
    same(deaf, train(tmp_path / "again", AgainDevices(), hooks=Hooks(optimizer=make))[0])


class ScaledOptimizer:
    def __init__(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.optimizer, self.scaler, self.skipped = optimizer, scaler, 0

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped += self.scaler.get_scale() < before


class ScaledDevices(TapeDevices):
    """Half precision's loss scaler around float32: at first so large that steps are left out."""

    def __init__(self, *, recorded: bool) -> None:
        super().__init__("16")
        self.recorded = recorded
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=3)

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
        self.stepper = ScaledOptimizer(optimizer, self.scaler)
        return model, self.stepper

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(2.0**12 * loss).backward()

    def waits(self) -> AbstractContextManager[list[str]]:
        return super().waits() if self.recorded else nullcontext(["here"])

    def scaler_state(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        if state:
            self.scaler.load_state_dict(state)


def test_a_loss_scaler_leaves_out_the_same_steps(tmp_path: Path) -> None:
    """Its decision stays outside of what is captured, and acts on the gradients that were."""
    options, ends = replace(OPTIONS, precision="16", lr=0.05 / 2**12), []
    for recorded in (True, False):
        devices = ScaledDevices(recorded=recorded)
        end, told = train(tmp_path / str(recorded), devices, options)
        ends.append((end, devices.stepper.skipped))
        assert [len(told.warnings), devices.replays] == ([0, 13] if recorded else [1, 0])
    (captured, skipped), (eager, eagerly_skipped) = ends
    same(captured, eager)
    assert captured["scaler"] == eager["scaler"]
    assert 3 < eagerly_skipped < 15
    assert skipped in (eagerly_skipped, eagerly_skipped + 2)  # the two that are compared may be left out, too


CHOICES = {
    "-N -v v2 --nl --pl": SchemeChoice(store=StoreOptions("v2"), nuclear=1.0, pearson=1.0),
    "-N -v v3": SchemeChoice(store=StoreOptions("v3")),
    "-N -v v2q --project": SchemeChoice(store=StoreOptions("v2q"), project=True, pearson=1.0),
    "-T -Q": SchemeChoice(rounding_bits=4),
    "-N -v v4": SchemeChoice(store=StoreOptions("v4"), rate=RateChoice()),
}


def through(choice: SchemeChoice, options: TrainOptions) -> tuple[nn.Module, Hooks]:
    """Return a small network and the hooks that train it so; version 4 with a teacher."""
    torch.manual_seed(3)
    architecture: Architecture = models.resolve("resnet", "cifar10", layers=8, width_mult=0.25)
    model = models.build(architecture)
    job = Job(DataChoice("cifar10"), architecture, options, scheme=choice, ckpt="none.pth", mode="retrain")
    more: dict[str, Any] = {}
    if choice.rate is not None:
        teacher = models.build(architecture).eval().requires_grad_(False)
        images_NCHW = FakeBatches(16).images_NCHW
        more = {
            "start": learn(model, images_NCHW, LearnOptions(0.01)),
            "teacher": Teacher(teacher, architecture),
        }
    hooks = scheme_hooks(model, job, rounds=0, input_facts={}, written=[], **more)
    return model, replace(hooks, saved=None)  # files take most of the time


@pytest.mark.parametrize("way", CHOICES)
def test_steps_through_a_scheme_are_captured(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_training, "REFRESH", 2)
    monkeypatch.setattr(penalties, "singular_values", penalties.nuclear_norm)  # as on a GPU
    learned = CHOICES[way].rate is not None
    options = replace(OPTIONS, epochs=2, save_epoch=1, lr=0.01 if learned else 0.05)
    ends = []
    for devices in (TapeDevices(), AgainDevices()):
        model, hooks = through(CHOICES[way], options)
        end, told = train(tmp_path / type(devices).__name__, devices, options, model=model, hooks=hooks)
        assert (told.warnings, devices.replays > 5) == ([], True)
        ends.append(end)
    same(*ends)
    extras = zip(*(tree_leaves(end["extra"]) for end in ends), strict=True)
    assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in extras)


def test_a_teacher_is_followed_as_the_network_is_in_use(tmp_path: Path) -> None:
    """Statistics of mixtures are not those of images: BatchNorm keeps what it had."""
    model, hooks = through(CHOICES["-N -v v4"], OPTIONS)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    train(tmp_path, Devices(), replace(OPTIONS, epochs=1), model=model, hooks=hooks)
    after = model.state_dict()
    for part, stays in (("bn1.running_mean", True), ("bn1.running_var", True), ("bn1.weight", False)):
        names = [name for name in before if name.endswith(part)]
        assert names
        assert all(torch.equal(before[name], after[name]) == stays for name in names)


@pytest.mark.parametrize("way", CHOICES)
def test_nothing_in_and_around_a_step_waits_for_a_gpu(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.train_step

    def watched(*args: Any) -> None:
        with NoWaits():
            plain(*args)

    monkeypatch.setattr(rate_training, "REFRESH", 2)
    monkeypatch.setattr(penalties, "singular_values", penalties.nuclear_norm)  # as on a GPU
    monkeypatch.setattr(loop, "train_step", watched)
    options = replace(OPTIONS, epochs=1, lr=0.01)
    model, hooks = through(CHOICES[way], options)
    monkeypatch.setattr(CapturedStep, "_difference", lambda *_: 0.0)  # it may, once
    devices = AgainDevices()
    train(tmp_path, devices, options, model=model, hooks=hooks, samples=48)
    assert devices.replays == 3


@pytest.mark.parametrize("flag", ["--deterministic", "--eager"])
def test_the_command_captures_unless_it_is_told_not_to(
    in_folder: Path, few_digits: None, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="carries `digits`")
    devices, kernels = TapeDevices(), []
    devices.choose_kernels = lambda *, deterministic: kernels.append(deterministic)
    monkeypatch.setattr("mess.recipes.run.open_devices", lambda *_, **__: devices)
    command = ["train", "digits", "-a", "resnet", "--layers", "8", "--width-mult", "0.25", "-b", "64", "--epochs", "1"]
    assert main([*command, flag]) == 0
    assert kernels == [flag == "--deterministic"]
    assert devices.replays == (5 - WARM_UP + 1 if flag == "--deterministic" else 0)  # 5 batches of 64, and one of 40


class ElsewhereDevices(Devices):
    """Not the CPU: tensors without numbers, which refuse those that are left on it, and being looked at."""

    device = torch.device("meta")


@pytest.mark.parametrize("way", [None, *CHOICES])
def test_all_that_a_step_needs_moves_to_the_device(
    tmp_path: Path, way: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_training, "REFRESH", 2)
    monkeypatch.setattr(penalties, "singular_values", penalties.nuclear_norm)  # as on a GPU
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know this device
    options = replace(OPTIONS, lr=0.01, ema=0.0 if way else 0.9)
    model, hooks = (tiny(), Hooks()) if way is None else through(CHOICES[way], options)
    data = (FakeBatches(40, 8), FakeBatches(17, 8, train=False))
    run = Run(model, data, options, ElsewhereDevices(), hooks, tmp_path, Reporter(), None)
    run.model.train()
    for _ in range(3):
        images_NCHW = torch.empty(8, 3, 8, 8, device="meta")
        loop.train_step(run, images_NCHW, torch.empty(8, dtype=torch.int64, device="meta"), 8)
        run.progress.step += 1
    assert all(parameter.grad is None or parameter.grad.is_meta for parameter in run.model.parameters())


SLOW = ("resnext", "shufflenet", "mobilenetv2")  # to run; the others have their kinds of layers


@pytest.mark.parametrize("arch", [pytest.param(f, marks=[pytest.mark.slow] * (f in SLOW)) for f in FAMILIES])
def test_a_step_of_every_family_is_captured(tmp_path: Path, arch: str) -> None:
    layers = {"resnet": 8, "resnext": 29, "wideresnet": 10}
    sizes = {"layers": layers[arch]} if arch in layers else {}
    architecture = models.resolve(
        arch, "cifar10", width_mult=0.5 if arch not in ("resnext", "wideresnet") else 1.0, **sizes
    )
    options = replace(OPTIONS, epochs=1, batch_size=4, lr=0.001)
    torch.manual_seed(0)
    devices = TapeDevices()
    _, told = train(tmp_path, devices, options, model=models.build(architecture), samples=4 * WARM_UP + 8)
    assert (told.warnings, devices.replays) == ([], 2 + 1)


def test_the_tape_itself_follows_tensors_and_nothing_else() -> None:
    x, number = torch.ones(2), [3.0]

    def function() -> None:
        x.mul_(number[0]).add_(x.sum())

    tape = Tape()
    with tape:
        function()
    tape.take_back()
    assert x.tolist() == [1.0, 1.0]
    x.fill_(2.0)
    number[0] = 100.0
    tape.replay()
    assert x.tolist() == [18.0, 18.0]
    with pytest.raises(RuntimeError, match="waits"), Tape():
        float(x.sum())
