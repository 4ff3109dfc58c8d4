"""Where a run takes place: what is refused, what is started, and that one CPU process costs nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mess.devices import Devices, exactly, find_device, open_devices
from mess.devices.batchnorm import synchronise
from mess.devices.exact import _exact_settings
from mess.errors import DeviceError, OptionError

FAKES = Path(__file__).with_name("training_fakes.py")


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_one_cpu_process_starts_nothing_and_imports_nothing_more() -> None:
    code = (
        "import sys; from mess.devices import open_devices; d = open_devices();"
        "print(d.launch(lambda x: x + 1, 41), d.rank, d.world_size, d.is_main, 'lightning_fabric' in sys.modules)"
    )
    assert run("-c", code).stdout.split() == ["42", "0", "1", "True", "False"]


def test_cuda_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"-C: expected a GPU that torch can use, found none. Leave out -C"):
        open_devices(cuda=True)


@pytest.mark.parametrize(
    ("gpuids", "message"),
    [
        ([99], "-g 99: expected one of the 2 here .GPUs 0 to 1., found GPU 99"),
        ([0, 0], "different GPU ids"),
        ([], "ids"),
    ],
)
def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch, gpuids: list[int], message: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match=message):
        open_devices(cuda=True, gpuids=gpuids)


def test_combinations_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="--precision: expected 32 or bf16 on a CPU, found 16"):
        open_devices(precision="16")
    with pytest.raises(OptionError, match="did you mean bf16"):
        open_devices(precision="bf-16")
    with pytest.raises(OptionError, match="--processes: expected a number of at least 1, found 0"):
        open_devices(processes=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match="Name the GPUs instead: -g 0 1"):
        open_devices(cuda=True, processes=2)


def test_bf16_on_one_cpu_process() -> None:
    devices = open_devices(precision="bf16")
    with devices.autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.bfloat16
    assert str(devices) == "CPU, bf16"


def test_what_torchrun_says_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Devices.may_restart
    told = {"RUN_ID": "none", "RESTART_COUNT": "1", "USE_AGENT_STORE": "False"}
    for name, value in told.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    devices = open_devices()
    assert (devices.may_restart, devices.restarted, devices.job, devices.world_size) == (True, True, "", 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "night-12")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    devices = open_devices()
    assert (devices.restarted, devices.job) == (False, "night-12")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="--nproc-per-node: expected at most 1, a process a GPU, found 2"):
        open_devices(cuda=True)


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(FAKES, tmp_path, "--processes", 2, MASTER_PORT=str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "expected the processes to find each other" in result.stderr
    assert "set MASTER_PORT to a free one" in result.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
def test_a_process_whose_first_one_is_gone_leaves(tmp_path: Path) -> None:
    """Here before the processes have found each other: no connection breaks that could tell."""
    arguments = [str(part) for part in (FAKES, tmp_path, "--processes", 2)]
    with subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not children.read_text():
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=120)  # until the other one, which holds the pipe too, is gone
    assert not (tmp_path / "started").exists()


def test_batchnorm_over_the_processes_is_batchnorm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)  # of one process
    torch.manual_seed(0)
    own, synced = torch.nn.BatchNorm2d(3), torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    synchronise(synced, "cpu")
    assert isinstance(synced[0], torch.nn.BatchNorm2d)
    assert list(synced.state_dict()) == [f"0.{name}" for name in own.state_dict()]
    x_NCHW = torch.randn(4, 3, 5, 6, requires_grad=True)
    weight = torch.randn(4, 3, 5, 6)
    results = []
    for layer in (own, synced):
        y_NCHW = layer(x_NCHW)
        results.append([y_NCHW, *torch.autograd.grad((y_NCHW * weight).sum(), [x_NCHW, *layer.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(list(own.state_dict().values()), list(synced.state_dict().values()))
    torch.testing.assert_close(own.eval()(x_NCHW), synced.eval()(x_NCHW))


def test_batchnorm_on_gpus_is_torchs_own_with_the_same_tensors() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    before = dict(model.named_parameters())
    synchronise(model, "cuda")
    assert isinstance(model[1], torch.nn.SyncBatchNorm)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_dies_stops_all(tmp_path: Path, dead: int) -> None:
    result = run(FAKES, tmp_path, "--processes", 2, "--kill-at", 7, "--rank", dead)
    assert result.returncode == (-9 if dead == 0 else 2)
    assert "expected the others to be there, found that one ended" in result.stderr
    assert (tmp_path / "ckpt_last.pth").exists()


def test_a_gpu_computes_exactly_for_a_while_and_then_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the settings alone; what they do is in test_cuda.py."""
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_more: nullcontext())
    settings = _exact_settings()
    before = [getattr(where, name) for where, name, _ in settings]
    with pytest.raises(ValueError, match="inside"), exactly(torch.device("cuda", 0)):  # noqa: PT012
        assert all(getattr(where, name) == value for where, name, value in settings)
        raise ValueError("inside")
    assert before == [getattr(where, name) for where, name, _ in settings]
    with exactly(torch.device("cpu")):
        assert before == [getattr(where, name) for where, name, _ in settings]


@pytest.mark.parametrize("named", ["cpu", "cpu:0", torch.device("cpu")])
def test_a_device_is_found_by_its_name(named: str | torch.device) -> None:
    assert find_device(named) == torch.device("cpu")


@pytest.mark.parametrize("named", ["gpu", "meta", "xla", "", None, 3.5])
def test_other_devices_are_refused(named: object) -> None:
    with pytest.raises(OptionError, match="cpu, cuda or cuda:N"):
        find_device(named)  # type: ignore[arg-type]
