"""Where a run takes place: what is refused, what is started, and that one CPU process costs nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mess.devices import open_devices, restarted
from mess.errors import DeviceError, OptionError

FAKES = Path(__file__).with_name("training_fakes.py")


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
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


def test_a_restart_by_torchrun_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted()


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(FAKES, tmp_path, "--processes", 2, MASTER_PORT=str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "expected the processes to find each other" in result.stderr
    assert "set MASTER_PORT to a free one" in result.stderr


@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_dies_stops_all(tmp_path: Path, dead: int) -> None:
    result = run(FAKES, tmp_path, "--processes", 2, "--kill-at", 7, "--rank", dead)
    assert result.returncode == (-9 if dead == 0 else 2)
    assert "expected the others to be there, found that one ended" in result.stderr
    assert (tmp_path / "ckpt_last.pth").exists()


def test_torchrun_restarts_what_was_killed_and_finishes(tmp_path: Path) -> None:
    whole = run(FAKES, tmp_path / "whole", "--processes", 2).stdout
    # killed in the third epoch; the second session goes on after the second, and has fewer steps left than that
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "--max-restarts", 3]
    killed = run(*torchrun, FAKES, tmp_path / "killed", "--resume", "--kill-at", 11, "--rank", 1)
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout == whole
