"""One GPU and one process: plain torch. Nothing has to be started, so Fabric's import of seconds is saved.

Steps are captured in CUDA graphs as PyTorch's notes on them say: warm up on a side stream, capture there, replay
anywhere.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mess.devices.base import Devices, Result

DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}  # of autocast; weights are always kept in float32
WAITED = "called a synchronizing CUDA operation"  # how torch's warning begins


class OneGpu(Devices):
    """One GPU. A step can be captured on it.

    Args:
        gpu: its id.
        precision: "32", "bf16" or "16", which scales the loss (Micikevicius et al. 2018, arXiv 1710.03740).
    """

    captures = True

    def __init__(self, gpu: int, precision: str = "32") -> None:
        super().__init__(precision)
        self.device = torch.device("cuda", gpu)
        self._scaler = torch.amp.GradScaler("cuda") if precision == "16" else None

    def launch(self, function: Callable[..., Result], *args: object) -> Result:
        """Run `function(*args)` with this GPU as torch's current one."""
        torch.cuda.set_device(self.device)
        return function(*args)

    def choose_kernels(self, *, deterministic: bool) -> None:
        """Take kernels that repeat exactly, or the fastest."""
        choose_kernels(deterministic=deterministic)

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Let the scaler, if there is one, decide whether a step is done."""
        scaled: Any = optimizer if self._scaler is None else _Scaled(optimizer, self._scaler)
        return model, scaled

    def autocast(self) -> AbstractContextManager:
        """Return the context for the chosen precision."""
        return torch.autocast("cuda", dtype=DTYPES[self.precision]) if self.precision in DTYPES else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Backward of the loss as the scaler has it."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        """The stream that graphs are recorded on."""
        return torch.cuda.Stream()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Run on that stream, after all that was asked for before and before all that is asked for later."""
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            yield
        before.wait_stream(self._stream)

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        """Note each operation that makes the CPU wait for the GPU; most of those there are (torch's debug mode)."""
        found: list[str] = []
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode(mode)
                found += [f"{w.filename}:{w.lineno}" for w in caught if str(w.message).startswith(WAITED)]

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """Return the replay of a new CUDA graph."""
        before, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        try:
            # other threads, which hand over images, may go on meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                function()
        except RuntimeError:
            torch.cuda.set_stream(before)  # a capture that fails at its end leaves its own stream in place, ...
            generator = torch.cuda.default_generators[before.device.index]
            generator.graphsafe_set_state(torch.Generator(before.device))  # ... and draws in the state of recording
            raise
        return graph.replay

    def scaler_state(self) -> dict[str, Any]:
        """Return the scaler's state."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Take up the scaler's state, if both then and now are fp16."""
        if state and self._scaler is not None:
            self._scaler.load_state_dict(state)

    def __str__(self) -> str:
        return torch.cuda.get_device_name(self.device) + ("" if self.precision == "32" else f", {self.precision}")


class _Scaled:
    """An optimizer whose step the scaler leaves out where a gradient is not finite."""

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.zero_grad, self._optimizer, self._scaler = optimizer.zero_grad, optimizer, scaler

    def step(self) -> None:
        self._scaler.step(self._optimizer)
        self._scaler.update()


def choose_kernels(*, deterministic: bool) -> None:
    """Take kernels that give bitwise the same run on the same set-up, or measure which are the fastest."""
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)  # a reference's gradient is a sum over its users
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; cuBLAS asks for it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
