"""The loop: it learns, it can be stopped anywhere and go on as if nothing had happened, and it says what goes wrong."""

from __future__ import annotations

import os
import random
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from mess.devices import Devices, FabricDevices
from mess.errors import CheckpointError, OptionError, OutputError
from mess.training import DivergedError, FitResult, Hooks, Reporter, TrainOptions, evaluate, fit
from mess.training import checkpoint as files
from training_fakes import CLASSES, FakeBatches, digest, tiny

OPTIONS = TrainOptions(epochs=3, batch_size=8, lr=0.05, print_freq=2, save_epoch=2)
STEPS = 5  # an epoch of 40 samples in batches of 8


class Heard(Reporter):
    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.epochs: list[Any] = []
        self.messages: list[tuple[str, str]] = []
        self.started: dict[str, object] = {}

    def start(self, info: dict[str, object]) -> None:
        self.started = info

    def step(self, report: Any) -> None:
        self.steps.append(report)

    def epoch_end(self, report: Any) -> None:
        self.epochs.append(report)

    def message(self, text: str, kind: str = "info") -> None:
        self.messages.append((kind, text))


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(folder: Path, options: TrainOptions = OPTIONS, **more: Any) -> FitResult:
    model = more.pop("model", None) or tiny()
    data = more.pop("data", None) or (FakeBatches(batch=options.batch_size), FakeBatches(17, 8, train=False))
    return fit(model, *data, options, Devices(options.precision), checkpoint_dir=folder, **more)


def interrupt(signum: int, *, at: int) -> Hooks:
    """Hooks that send a real signal to this process after `at` steps."""
    steps = 0

    def after_step(_model: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signum)

    return Hooks(after_step=after_step)


def last(folder: Path) -> dict[str, Any]:
    return files.load(folder / files.LAST)


def rows(folder: Path) -> list[list[str]]:
    """Return the log without its times."""
    return [row.split(",")[:9] for row in (folder / "log.csv").read_text().splitlines()]


def test_it_learns_and_keeps_what_it_promises(tmp_path: Path) -> None:
    heard = Heard()
    result = train(tmp_path, TrainOptions(epochs=8, batch_size=8, lr=0.05, print_freq=2, save_epoch=3), reporter=heard)
    assert result.best_top1 > 90
    assert (result.epochs, result.exit_code, result.last.samples) == (8, 0, 17)
    assert result.seconds_per_epoch == pytest.approx(result.seconds / 8)
    kept = {"ckpt_epoch_3.pth", "ckpt_epoch_6.pth", "ckpt_epoch_8.pth", "ckpt_best.pth"}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, files.LAST, files.PREVIOUS, "log.csv"}
    assert files.load(tmp_path / "ckpt_best.pth")["epoch"] == result.best_epoch
    assert len(heard.epochs) == 8
    assert [(r.epoch, r.step) for r in heard.steps[:4]] == [(1, 2), (1, 4), (1, 5), (2, 2)]
    assert heard.epochs[-1].train_loss < heard.epochs[0].train_loss
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 9
    assert heard.started["batch"] == "8, 5 steps an epoch"


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        TrainOptions(epochs=3, batch_size=8, lr=0.05, ema=0.9, schedule="onecycle", save_every="2"),
        TrainOptions(epochs=3, batch_size=8, lr=0.05, precision="bf16", channels_last=False, warmup_epochs=1),
    ],
    ids=["plain", "average, one-cycle", "bf16, warm-up"],
)
def test_a_run_stopped_anywhere_is_bitwise_the_same_run(tmp_path: Path, options: TrainOptions) -> None:
    train(tmp_path / "whole", options)
    whole = last(tmp_path / "whole")
    stops, resumed, signals = random.Random(options.lr), None, []
    folder = tmp_path / "stopped"
    while True:
        signum = stops.choice([signal.SIGTERM, signal.SIGINT])
        result = train(folder, options, hooks=interrupt(signum, at=stops.randint(1, 6)), resume_from=resumed)
        resumed = last(folder)
        if result.stopped_by_signal is None:
            break
        signals.append(result.exit_code - 128)
        assert result.stopped_by_signal == signum
    assert len(signals) >= 2
    for part in ("state_dict", "ema"):
        if whole[part]:
            state = [c[part]["state_dict"] if part == "ema" else c[part] for c in (whole, resumed)]
            assert digest(state[0]) == digest(state[1])
    momentum = [[s["momentum_buffer"] for s in c["optimizer"]["state"].values()] for c in (whole, resumed)]
    assert all(torch.equal(a, b) for a, b in zip(*momentum, strict=True))
    assert (whole["best_top1"], whole["best_epoch"]) == (resumed["best_top1"], resumed["best_epoch"])
    assert rows(tmp_path / "whole") == rows(tmp_path / "stopped")


def test_a_stop_within_the_test_goes_on_with_the_test(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    calls: list[str] = []

    class Stopping(Heard):
        def eval_step(self, done: int, total: int) -> None:
            if done == 1 and not (tmp_path / "log.csv").exists():
                os.kill(os.getpid(), signal.SIGTERM)

    hooks = Hooks(after_epoch=lambda epoch, _model, _save: calls.append(f"after {epoch}"))
    result = train(tmp_path, reporter=Stopping(), hooks=hooks)
    assert (result.exit_code, result.epochs, result.last) == (143, 0, None)
    stopped = last(tmp_path)
    assert (stopped["epoch"], stopped["step"], stopped["trained"]) == (0, STEPS, True)
    train(tmp_path, resume_from=stopped, hooks=hooks)
    assert calls == ["after 0", "after 1", "after 2"]
    assert digest(last(tmp_path)["state_dict"]) == digest(last(tmp_path / "whole")["state_dict"])
    assert rows(tmp_path) == rows(tmp_path / "whole")


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    def twice(_model: nn.Module) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, hooks=Hooks(after_step=twice))
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / files.LAST).exists()


def test_the_best_accuracy_survives_a_resume(tmp_path: Path) -> None:
    train(tmp_path, hooks=interrupt(signal.SIGTERM, at=12))
    first = {"best_top1": 101.0, "best_epoch": 1}
    checkpoint = {**last(tmp_path), **first}
    files.save(tmp_path / files.BEST, {**checkpoint, "epoch": 1, "step": 0})
    best = (tmp_path / files.BEST).read_bytes()
    result = train(tmp_path, resume_from=checkpoint)
    assert (result.best_top1, result.best_epoch) == (101.0, 1)
    assert (tmp_path / files.BEST).read_bytes() == best


def test_where_bits_have_a_price_the_cheapest_epoch_is_the_best_across_a_resume(tmp_path: Path) -> None:
    bits = iter([9.0, 8.0, 2.0, 3.0])  # a test loss is far below 1
    priced = {"bits": lambda _model: next(bits), "bit_price": 1.0}
    heard = Heard()
    options = replace(OPTIONS, epochs=4)
    stopped = train(tmp_path, options, hooks=replace(interrupt(signal.SIGTERM, at=12), **priced), reporter=heard)
    assert stopped.best_epoch == 2
    result = train(tmp_path, options, hooks=Hooks(**priced), reporter=heard, resume_from=last(tmp_path))
    assert result.best_epoch == files.load(tmp_path / files.BEST)["best_epoch"] == 3
    assert result.best_top1 == heard.epochs[2].test_top1 == heard.epochs[3].best_top1


def test_a_checkpoint_from_before_bits_had_a_price_goes_on(tmp_path: Path) -> None:
    train(tmp_path, hooks=interrupt(signal.SIGTERM, at=12))
    checkpoint = {name: value for name, value in last(tmp_path).items() if name != "best_cost"}
    hooks = Hooks(bits=lambda _model: 1.0, bit_price=1.0)
    assert train(tmp_path, hooks=hooks, resume_from=checkpoint).best_epoch >= 3


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    def break_it(model: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == STEPS + 2:
            model[0].weight.data.fill_(float("nan"))

    steps = 0
    with pytest.raises(
        DivergedError, match=r"epoch 2, step 3: expected a finite loss.*Try a lower --lr.*ckpt_last.pth"
    ):
        train(tmp_path, hooks=Hooks(after_step=break_it))
    good = last(tmp_path)
    assert (good["epoch"], good["step"]) == (1, 0)
    assert all(tensor.isfinite().all() for tensor in good["state_dict"].values())
    steps = STEPS + 2 - 4  # now in step 4, just before a save: the loss does not show it yet, the weights do
    options = TrainOptions(epochs=3, batch_size=8, save_every="4", print_freq=100)
    with pytest.raises(DivergedError, match=r"step 4: expected finite weights, found NaN or infinity in 0.weight"):
        train(tmp_path / "other", options, hooks=Hooks(after_step=break_it))
    assert not (tmp_path / "other" / files.LAST).exists()


def test_a_full_disk_is_warned_of_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, write = Heard(), files.atomic_write

    def full(path: Path, content: bytes) -> None:
        if path.name == "ckpt_epoch_2.pth":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "atomic_write", full)
    assert train(tmp_path, reporter=heard).epochs == 3
    assert [kind for kind, _ in heard.messages] == ["warning"]
    assert "could not save" in heard.messages[0][1]
    assert "No space left on device" in heard.messages[0][1]
    assert (tmp_path / "ckpt_epoch_3.pth").exists()


@pytest.mark.parametrize("lost", [files.BEST, files.LAST])
def test_a_run_whose_end_is_on_no_disk_does_not_end_well(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, save = Heard(), files.save

    def full(path: Path, content: Any) -> None:
        if lost in path.name:
            raise OSError(28, "No space left on device")
        save(path, content)

    monkeypatch.setattr(files, "save", full)
    with pytest.raises(OutputError, match=f"{lost}: expected the end of the run to be saved, found No space left"):
        train(tmp_path, reporter=heard)
    assert [report.epoch for report in heard.epochs] == [1, 2, 3]
    assert ("warning", f"could not save {tmp_path / lost}: No space left on device") in heard.messages


def test_a_best_epoch_that_could_not_be_saved_is_not_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room, the next epoch that is better than what is on the disk takes its place."""
    save, fails = files.save, iter([True])

    def full_once(path: Path, content: Any) -> None:
        if path.name == files.BEST and next(fails, False):
            raise OSError(28, "No space left on device")
        save(path, content)

    monkeypatch.setattr(files, "save", full_once)
    result = train(tmp_path)
    assert result.best_epoch == files.load(tmp_path / files.BEST)["epoch"] > 1


def test_hooks_are_called_where_they_say(tmp_path: Path) -> None:
    calls: list[str] = []

    @contextmanager
    def validated(model: nn.Module) -> Any:
        calls.append("enter")
        yield
        calls.append("leave")

    hooks = Hooks(
        penalty=lambda model: model[9].weight.square().sum(),
        before_epoch=lambda epoch, model: calls.append(f"before {epoch}"),
        after_step=lambda model: calls.append("."),
        after_epoch=lambda epoch, model, save: calls.append(f"after {epoch} {save}"),
        validated=validated,
        saved=lambda path, model: calls.append(path.name),
        extra_state=lambda: {"index": torch.arange(3)},
    )
    train(tmp_path, TrainOptions(epochs=2, batch_size=20, save_epoch=2), hooks=hooks)
    best = ["ckpt_best.pth"]
    first, second = ["before 0", ".", ".", "after 0 False"], ["before 1", ".", ".", "after 1 True"]
    without_best = [call for call in calls if call not in best]
    assert without_best == [*first, "enter", "leave", *second, "enter", "leave", "ckpt_epoch_2.pth"]
    assert torch.equal(last(tmp_path)["extra"]["index"], torch.arange(3))


def test_a_penalty_pulls_and_extra_state_comes_back(tmp_path: Path) -> None:
    strong = Hooks(penalty=lambda model: 100 * model[9].weight.square().sum(), extra_state=lambda: {"n": 7})
    options = TrainOptions(epochs=1, batch_size=8, lr=0.001)
    models = [tiny(), tiny()]
    train(tmp_path / "a", options, model=models[0])
    train(tmp_path / "b", options, model=models[1], hooks=strong)
    assert models[1][9].weight.norm() < 0.5 * models[0][9].weight.norm()
    taken: list[object] = []
    train(tmp_path / "b", hooks=Hooks(load_extra_state=taken.append), resume_from=last(tmp_path / "b"))
    assert taken == [{"n": 7}]


def test_what_changes_on_a_resume_is_told(tmp_path: Path) -> None:
    train(tmp_path, hooks=interrupt(signal.SIGTERM, at=3))
    heard = Heard()
    data = FakeBatches(batch=20), FakeBatches(17, 8, train=False)
    options = TrainOptions(epochs=2, batch_size=20, lr=0.02, print_freq=2, save_epoch=2)
    result = train(tmp_path, options, reporter=heard, resume_from=last(tmp_path), data=data)
    assert ("info", "--lr is now 0.02 (the checkpoint has 0.05)") in heard.messages
    assert heard.messages[0] == ("warning", "the batch size changed within an epoch: 4 samples are seen twice")
    assert data[0].seen[0] == (0, 1)  # 24 samples are one batch of 20, and 4
    assert heard.started["resumed"] == "after 0 epochs and 1 steps, best 0.00%"
    assert result.epochs == 2


def test_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, TrainOptions(epochs=1, batch_size=20))
    with pytest.raises(CheckpointError, match=r"--resume: expected tiny \(layers 3\), found tiny \(layers 2\)"):
        train(tmp_path, model=tiny(layers=3), resume_from=last(tmp_path))
    nameless = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    with pytest.raises(CheckpointError, match="expected the state of this very network and recipe"):
        train(tmp_path, model=nameless, resume_from=last(tmp_path))


def test_another_training_set_is_refused(tmp_path: Path) -> None:
    train(tmp_path, hooks=interrupt(signal.SIGTERM, at=3))
    grown = FakeBatches(44, 8), FakeBatches(17, 8, train=False)
    message = r"--resume: expected the 40 training samples of this run, found 44.*--ckpt without --resume"
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path, resume_from=last(tmp_path), data=grown)


def test_an_explicit_momentum_or_decay_reaches_the_optimizer(tmp_path: Path) -> None:
    plain = TrainOptions(epochs=2, batch_size=8, momentum=0.0, weight_decay=0.0)
    train(tmp_path, plain, hooks=interrupt(signal.SIGTERM, at=3))
    train(tmp_path, replace(plain, momentum=0.5, weight_decay=0.1), resume_from=last(tmp_path))
    settings = [(g["momentum"], g["nesterov"], g["weight_decay"]) for g in last(tmp_path)["optimizer"]["param_groups"]]
    assert settings == [(0.5, True, 0.1), (0.5, True, 0.0)]


def test_the_scaler_of_fp16_goes_on_where_it_was(tmp_path: Path) -> None:
    """Fabric's own fp16, with the one difference that torch's scaler is told to scale on the CPU."""

    def devices() -> FabricDevices:
        opened = FabricDevices(cuda=False, devices=1, nodes=1, precision="32")
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)  # too high at first: steps are skipped
        opened.fabric.strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)
        opened.precision = "16"
        return opened

    def run(folder: Path, **more: Any) -> dict[str, Any]:
        data = FakeBatches(), FakeBatches(17, 8, train=False)
        fit(tiny(), *data, replace(OPTIONS, precision="16"), devices(), checkpoint_dir=folder, **more)
        return last(folder)

    whole = run(tmp_path / "whole")
    assert whole["scaler"]["scale"] < 2.0**20
    stopped = run(tmp_path / "parts", hooks=interrupt(signal.SIGTERM, at=7))
    assert stopped["scaler"]["_growth_tracker"] > 0
    resumed = run(tmp_path / "parts", resume_from=stopped)
    assert resumed["scaler"] == whole["scaler"]
    assert digest(resumed["state_dict"]) == digest(whole["state_dict"])


def test_averaged_weights_are_what_is_tested_and_kept(tmp_path: Path) -> None:
    tested: list[str] = []
    saved: list[str] = []

    @contextmanager
    def validated(model: nn.Module) -> Any:
        tested.append(digest(model.state_dict()))
        yield

    hooks = Hooks(validated=validated, saved=lambda path, model: saved.append(digest(model.state_dict())))
    model = tiny()
    train(tmp_path, TrainOptions(epochs=1, batch_size=8, ema=0.5), hooks=hooks, model=model)
    checkpoint = last(tmp_path)
    assert tested[0] == saved[0] == digest(checkpoint["ema"]["state_dict"])
    assert digest(model.state_dict()) == digest(checkpoint["state_dict"]) != tested[0]


def test_a_training_set_without_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--batch-size: expected a training set of at least two samples a process"):
        train(tmp_path, data=(FakeBatches(0), FakeBatches(17)))


def test_epochs_are_tested_as_people_test_what_is_kept(tmp_path: Path) -> None:
    """In float32, whatever training computes in."""
    result = train(tmp_path, replace(OPTIONS, precision="bf16"))
    kept = tiny()
    kept.load_state_dict(last(tmp_path)["state_dict"])
    exact = evaluate(kept, FakeBatches(17, train=False), Devices())
    assert result.last is not None
    assert (result.last.loss, result.last.top1) == (pytest.approx(exact.loss, rel=1e-6), exact.top1)
    assert exact.loss != pytest.approx(evaluate(kept, FakeBatches(17, train=False), Devices("bf16")).loss, rel=1e-5)
