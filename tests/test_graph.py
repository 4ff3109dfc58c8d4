"""The calls that record a CUDA graph, in their order, without a GPU: torch's own functions are stood in for."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mess.devices import OneGpu, open_devices
from mess.devices.gpu import choose_kernels

REAL_GRAPH = torch.cuda.graph


class Stream:
    def __init__(self, calls: list[str], name: str) -> None:
        self.calls, self.name, self.device = calls, name, SimpleNamespace(index=0)

    def wait_stream(self, other: Stream) -> None:
        self.calls.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called, in order."""
    made: list[str] = []
    current = [Stream(made, "main")]

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        before, current[0] = current[0], stream
        made.append(f"on {stream.name}")
        yield
        current[0] = before  # as torch: not where an error leaves the block through the end of a capture

    @contextmanager
    def graph(graph: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        inspect.signature(REAL_GRAPH).bind(graph, stream=stream, capture_error_mode=capture_error_mode)
        current[0] = stream
        made.append(f"capture on {stream.name}, {capture_error_mode}")
        yield
        made.append("end of capture")
        current[0] = made_main[0]

    made_main = [current[0]]
    generator = SimpleNamespace(graphsafe_set_state=lambda _other: made.append("a generator that records nothing"))
    stand_ins = {
        "Stream": lambda: Stream(made, "side"),
        "current_stream": lambda: current[0],
        "stream": on,
        "set_stream": lambda stream: made.append(f"back on {stream.name}"),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: made.append("replay")),
        "graph": graph,
        "default_generators": [generator],
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: made.append(f"debug {mode}"),
    }
    for name, stand_in in stand_ins.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, stand_in)
    assert hasattr(torch.Generator, "graphsafe_set_state")
    monkeypatch.setattr(torch, "Generator", lambda _device: None)
    return made


def test_a_step_warms_up_on_the_side_stream_is_recorded_there_and_replayed(calls: list[str]) -> None:
    recorder = OneGpu(0)
    with recorder.apart():
        calls.append("step")
    replay = recorder.record(lambda: calls.append("step"))
    replay()
    assert calls == [
        "side waits for main", "on side", "step", "main waits for side",
        "capture on side, thread_local", "step", "end of capture", "replay",
    ]  # fmt: skip


def test_after_a_recording_that_fails_the_old_stream_and_a_new_generator_are_in_place(calls: list[str]) -> None:
    def function() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        OneGpu(0).record(function)
    assert calls == ["capture on side, thread_local", "back on main", "a generator that records nothing"]


def test_waits_are_those_that_torch_warns_of(calls: list[str]) -> None:
    with OneGpu(0).waits() as found:
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at …)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert len(found) == 1
    assert found[0].startswith(__file__)
    assert calls == ["debug warn", "debug 0"]
    with pytest.raises(ValueError, match="the step"), OneGpu(0).waits():
        raise ValueError("the step")
    assert calls[2:] == ["debug warn", "debug 0"]


def test_one_gpu_needs_no_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    devices = open_devices(cuda=True, gpuids=[1])
    assert isinstance(devices, OneGpu)
    assert devices.launch(lambda: "done") == "done"
    assert taken == [torch.device("cuda", 1)]
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert devices.setup(model, optimizer) == (model, optimizer)
    with devices.autocast():
        devices.backward(model(torch.ones(1, 2)).sum())
    assert model.weight.grad is not None
    assert (devices.scaler_state(), devices.world_size, devices.is_main) == ({}, 1, True)


def test_kernels_are_the_fastest_or_repeat_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (cudnn.benchmark, cudnn.deterministic, torch.utils.deterministic.fill_uninitialized_memory)
    try:
        for deterministic in (False, True, False):
            choose_kernels(deterministic=deterministic)
            assert (cudnn.benchmark, cudnn.deterministic) == (not deterministic, deterministic)
            assert torch.are_deterministic_algorithms_enabled() is deterministic
    finally:
        cudnn.benchmark, cudnn.deterministic, torch.utils.deterministic.fill_uninitialized_memory = before
