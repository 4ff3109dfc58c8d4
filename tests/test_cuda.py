"""What only a GPU can show: every mode once, captured against eager, GPU against CPU, and resuming across both."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mess
from mess import models
from mess.cli import main
from mess.data import Batches, DatasetInfo, ImageSet, open_dataset
from mess.devices import Devices, OneGpu, exactly, open_devices
from mess.graphs.network import GraphNetwork
from mess.names import FAMILIES
from mess.scheme.learned import synthetic_inputs
from mess.scheme.matched.matching import match
from mess.scheme.matched.penalties import nuclear_penalty
from mess.training import Hooks, TrainOptions, evaluate, fit
from mess.training import checkpoint as files
from test_capture import CHOICES, Told, same, stopping, through
from training_fakes import tiny

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation"),
]

OPTIONS = TrainOptions(epochs=3, batch_size=16, lr=0.02, print_freq=2, save_epoch=2, deterministic=True)
INFO = DatasetInfo("squares", 3, (0.5,) * 3, (0.25,) * 3, 16, padding=2)
SAMPLES = 16 * 9 + 6


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, False


def squares(device: torch.device, *, train: bool) -> Batches:
    """Return images of three kinds, which are easily told apart."""
    count = SAMPLES if train else 40
    generator = torch.Generator().manual_seed(1 if train else 2)
    labels_N = torch.arange(count) % 3
    images_NCHW = torch.randint(0, 150, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    images_NCHW[torch.arange(count), labels_N] += 60
    images = ImageSet(INFO, images_NCHW, labels_N)
    return Batches(images, 16, train=train, device=device, channels_last=True)


def run(
    folder: Path, options: TrainOptions = OPTIONS, *, cuda: bool = True, **more: Any
) -> tuple[dict[str, Any], list[str]]:
    """Return the last checkpoint and the warnings."""
    devices = more.pop("devices", None) or open_devices(cuda, precision=options.precision)
    model = more.pop("model", None) or tiny(0.0)
    told = Told()

    def trained() -> None:
        devices.choose_kernels(deterministic=options.deterministic)
        data = (squares(devices.device, train=True), squares(devices.device, train=False))
        fit(model, *data, options, devices, checkpoint_dir=folder, reporter=told, **more)

    devices.launch(trained)
    return files.load(folder / files.LAST), told.warnings


def close(a: dict[str, Any], b: dict[str, Any], tolerance: float = 0.02) -> None:
    """Weights and running statistics, as vectors: how far apart, over how long."""
    pairs = [(a["state_dict"][n].double(), b["state_dict"][n].double()) for n in a["state_dict"]]
    apart = sum(float((x - y).square().sum()) for x, y in pairs) / sum(float(y.square().sum()) for _, y in pairs)
    assert apart**0.5 < tolerance


def unrecorded(precision: str = "32") -> Devices:
    """Devices on which no step is captured, with the optimizer in the form in which it could be."""
    devices = open_devices(True, precision=precision)
    devices.waits = lambda: nullcontext(["here"])  # type: ignore[method-assign]
    return devices


PRECISIONS = pytest.mark.parametrize("precision", ["32", "bf16", "16"])


@PRECISIONS
def test_captured_steps_are_eager_ones_to_the_bit(tmp_path: Path, precision: str) -> None:
    options = replace(OPTIONS, precision=precision, ema=0.9)
    captured, warnings = run(tmp_path / "captured", options, model=tiny(0.3))
    assert warnings == []
    by_python, _ = run(tmp_path / "eager", options, model=tiny(0.3), devices=unrecorded(precision))
    same(captured, by_python)
    assert ("scale" in captured["scaler"]) is (precision == "16")


@PRECISIONS
@pytest.mark.parametrize("eager", [False, True], ids=["captured", "eager"])
def test_the_fastest_kernels_train_as_well(tmp_path: Path, precision: str, eager: bool) -> None:
    options = replace(OPTIONS, precision=precision, eager=eager, deterministic=False, epochs=6)
    end, warnings = run(tmp_path, options)
    assert warnings == []
    assert end["best_top1"] > 90


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_step_of_every_family_is_captured(tmp_path: Path, arch: str) -> None:
    layers = {"resnet": 8, "resnext": 29, "wideresnet": 10}
    sizes = {"layers": layers[arch]} if arch in layers else {}
    torch.manual_seed(0)
    model = models.build(models.resolve(arch, "cifar10", **sizes))
    options = replace(OPTIONS, epochs=1, precision="bf16", deterministic=False, lr=0.001)
    assert run(tmp_path, options, model=model)[1] == []


@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "fastest"])
@pytest.mark.parametrize("way", CHOICES)
def test_steps_through_a_scheme_are_captured(tmp_path: Path, way: str, deterministic: bool) -> None:
    options = replace(OPTIONS, deterministic=deterministic, lr=0.005, epochs=2)
    model, hooks = through(CHOICES[way], options)
    assert run(tmp_path, options, model=model, hooks=hooks)[1] == []


def test_a_penalty_that_waits_is_eager_and_says_so(tmp_path: Path) -> None:
    hooks = Hooks(penalty=lambda model: 1e-3 * torch.linalg.svdvals(model[0].weight.flatten(1)).sum())
    _, warnings = run(tmp_path, hooks=hooks)
    assert len(warnings) == 1
    assert "not captured" in warnings[0]


def test_the_nuclear_penalty_is_the_cpus() -> None:
    refs_KU = torch.randn(48, 9, generator=torch.Generator().manual_seed(0))
    here, there = refs_KU.clone().requires_grad_(), refs_KU.cuda().requires_grad_()
    penalties = [nuclear_penalty(refs, 1.0) for refs in (here, there)]
    for penalty in penalties:
        penalty.backward()
    torch.testing.assert_close(penalties[1].cpu(), penalties[0])
    torch.testing.assert_close(there.grad.cpu(), here.grad, rtol=1e-3, atol=1e-6)


def test_a_recording_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """The network has dropout, whose generator is told of recordings."""

    def penalty(model: nn.Module) -> Tensor:
        return 1e-3 * model[0].weight.sum() * float(model[0].weight.detach().sum())

    devices = open_devices(True)
    devices.waits = lambda: nullcontext([])  # type: ignore[method-assign]
    end, warnings = run(tmp_path / "fails", model=tiny(0.3), hooks=Hooks(penalty=penalty), devices=devices)
    assert len(warnings) == 1
    assert "cannot be recorded" in warnings[0]
    same(end, run(tmp_path / "other", model=tiny(0.3), hooks=Hooks(penalty=penalty), devices=unrecorded())[0])


@pytest.mark.parametrize(
    ("first", "then"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda"), ("cpu", "cpu")], ids="to".join
)
def test_a_run_goes_on_anywhere(tmp_path: Path, first: str, then: str) -> None:
    options = replace(OPTIONS, ema=0.9)
    whole, _ = run(tmp_path / "whole", options, cuda=first == "cuda", model=tiny(0.3 if first == then else 0.0))
    model = [tiny(0.3 if first == then else 0.0) for _ in range(2)]
    stopped, _ = run(tmp_path / "parts", options, cuda=first == "cuda", model=model[0], hooks=stopping(15))
    assert 0 < stopped["step"] < 10
    resumed, warnings = run(tmp_path / "parts", options, cuda=then == "cuda", model=model[1], resume_from=stopped)
    assert warnings == []
    if first == then:
        same(resumed, whole)
    else:
        close(resumed, whole)


def test_a_scaler_goes_on_where_it_was(tmp_path: Path) -> None:
    options = replace(OPTIONS, precision="16")
    whole, _ = run(tmp_path / "whole", options)
    stopped, _ = run(tmp_path / "parts", options, hooks=stopping(13))
    resumed, _ = run(tmp_path / "parts", options, resume_from=stopped)
    assert resumed["scaler"] == whole["scaler"]
    same(resumed, whole)


def test_captured_and_eager_runs_resume_one_another(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", replace(OPTIONS, eager=True))
    stopped, _ = run(tmp_path / "parts", hooks=stopping(12))
    resumed, _ = run(tmp_path / "parts", replace(OPTIONS, eager=True), resume_from=stopped)
    close(resumed, whole, 0.005)


def test_a_gpu_trains_and_tests_as_a_cpu_does(tmp_path: Path) -> None:
    ends = [run(tmp_path / name, cuda=name == "gpu")[0] for name in ("cpu", "gpu")]
    close(*ends)
    model = tiny(0.0)
    model.load_state_dict(ends[0]["state_dict"])
    scores = []
    for cuda in (False, True):
        devices = open_devices(cuda)
        found: Callable[[], Any] = lambda devices=devices: evaluate(  # noqa: E731
            model.to(devices.device), squares(devices.device, train=False), devices
        )
        scores.append(devices.launch(found))
    assert scores[0].top1 == scores[1].top1
    assert scores[0].loss == pytest.approx(scores[1].loss, rel=1e-3)


def test_the_same_references_are_chosen() -> None:
    torch.manual_seed(0)
    units_NU, refs_KU = torch.randn(40_000, 9), torch.randn(48, 9)
    for fit_ in ("affine", "copy"):
        cpu, gpu = match(units_NU, refs_KU, fit_), match(units_NU.cuda(), refs_KU.cuda(), fit_)
        assert float((cpu.index_N == gpu.index_N.cpu()).float().mean()) > 0.9999


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_reach_the_gpu_as_they_are(pictures: Path, workers: int) -> None:
    images = open_dataset(str(pictures), train=True, crop=32, resize=36)
    cpu, gpu = (
        list(Batches(images, 5, train=True, device=device, workers=workers, channels_last=True).epoch(1))
        for device in ("cpu", "cuda")
    )
    for (x_NCHW, labels_N), (y_NCHW, others_N) in zip(cpu, gpu, strict=True):
        torch.testing.assert_close(y_NCHW.cpu(), x_NCHW)
        assert torch.equal(others_N.cpu(), labels_N)


def test_one_gpu_is_opened_as_asked() -> None:
    devices = open_devices(True, [0], precision="bf16")
    assert isinstance(devices, OneGpu)
    assert devices.captures
    assert devices.device == torch.device("cuda", 0)
    assert str(devices).endswith(", bf16")


def test_ctrl_c_is_heard_between_two_replays(tmp_path: Path) -> None:
    def after_step(_model: nn.Module) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    end, _ = run(tmp_path, hooks=Hooks(after_step=after_step))
    assert end["step"] == 1


def stored(path: Path, device: str, version: str = "v4") -> Any:
    """Store a small network in which something varies; return the report."""
    torch.manual_seed(0)
    model = models.build(models.resolve("resnet", "cifar10", layers=8))
    images = torch.randn(300, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model.train()(images[:64])
    before = {name: x.clone() for name, x in model.state_dict().items()}
    report = mess.compress(model.eval(), path, version, images if version == "v4" else None, device=device)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    return report


def test_a_network_is_stored_as_on_the_cpu(tmp_path: Path) -> None:
    """Sums in another order change some integers: bytes by a few tenths of a percent."""
    cpu, gpu = (stored(tmp_path / f"{device}.mess", device) for device in ("cpu", "cuda"))
    assert gpu.bytes == pytest.approx(cpu.bytes, rel=0.01)
    assert gpu.look.divergence == pytest.approx(cpu.look.divergence, rel=0.1)
    weights = [mess.load_state_dict(tmp_path / f"{device}.mess") for device in ("cpu", "cuda")]
    for name, wanted in weights[0].items():
        if wanted.dim() > 1:
            assert float((weights[1][name] - wanted).norm() / wanted.norm()) < 0.05


def test_references_are_matched_as_on_the_cpu(tmp_path: Path) -> None:
    files_ = [tmp_path / f"{device}.mess" for device in ("cpu", "cuda")]
    for path, device in zip(files_, ("cpu", "cuda"), strict=True):
        stored(path, device, "v2")
    cpu, gpu = map(mess.load_state_dict, files_)
    same_ = [torch.isclose(gpu[n], cpu[n], rtol=1e-5, atol=1e-6).float().mean() for n in cpu if cpu[n].dim() == 4]
    assert float(torch.stack(same_).mean()) > 0.999


def test_images_are_made_up_on_the_gpu() -> None:
    torch.manual_seed(0)
    model = models.build(models.resolve("resnet", "cifar10", layers=8))
    model.train()(torch.randn(64, 3, 32, 32))
    cpu, gpu = synthetic_inputs(model, 32, 32), synthetic_inputs(model.cuda(), 32, 32)
    assert gpu.device == cpu.device
    assert float((gpu - cpu).norm() / cpu.norm()) < 0.2  # Adam takes steps of one size, also where gradients are noise


def test_convolutions_are_exact_where_a_network_is_stored_and_settings_come_back() -> None:
    was = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    x, w = torch.randn(16, 64, 32, 32), torch.randn(64, 64, 3, 3)
    wanted = nn.functional.conv2d(x.double(), w.double())
    with exactly(torch.device("cuda", 0)):
        found = nn.functional.conv2d(x.cuda(), w.cuda()).cpu().double()
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5  # TF32: 3e-4
    assert was == (
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    )  # fmt: skip


def test_the_command_stores_on_a_gpu(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "net.pth"
    torch.save(models.build(models.resolve("resnet", "cifar10", layers=8)).state_dict(), path)
    assert main(["compress", str(path), "-C", "--divergence", "0.05"]) == 0
    assert main(["compress", str(path), "-C", "-g", "99", "--force"]) == 2
    assert "-g 99" in capfd.readouterr().err


def test_graphs_run_on_a_gpu() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from test_onnx_operators import CASES, X, single

    for kind, attributes, others, opset in CASES:
        content = single(kind, attributes, X, others, opset, outputs=2 if kind == "Split" else 1)
        wanted = GraphNetwork(content, {}).outputs(torch.from_numpy(X))
        with exactly(torch.device("cuda", 0)):
            found = GraphNetwork(content, {}).outputs(torch.from_numpy(X).cuda())
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-3, msg=kind)
