"""What training asks of the devices, and its simplest answer: one CPU process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")


class Devices:
    """One CPU process. Also the interface: with one process sums are what they were and nobody else can stop us."""

    device = torch.device("cpu")
    rank = 0
    world_size = 1
    processes_here = 1  # on this machine
    captures = False  # a step can be recorded and replayed without Python
    job = ""  # torchrun's name of the job, the same after every restart; "" without torchrun or a name
    may_restart = False  # torchrun may end these processes and start them anew, with the same command
    restarted = False  # it has done so

    def __init__(self, precision: str = "32") -> None:
        self.precision = precision

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def launch(self, function: Callable[..., Result], *args: object) -> Result:
        """Run `function(*args)` in every process and return what it returned in the first.

        The other processes never return: they leave with exit code 0 when the first one is done too.

        Raises:
            DeviceError: processes could not be started, or one of them died.
        """
        return function(*args)

    def once(self, function: Callable[[], Result]) -> Result:
        """Return in every process what `function()` returns in the first, the only one that calls it."""
        return function()

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return what to call forward and `step()` on; `model` itself stays as it is, under its own names."""
        return model, optimizer

    def autocast(self) -> AbstractContextManager:
        """Return the context in which a forward pass has the chosen precision."""
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def choose_kernels(self, *, deterministic: bool) -> None:
        """Say whether a GPU has to give the same bits each time; to be called before it has anything to do."""

    def apart(self) -> AbstractContextManager[object]:
        """Return the context in which a step warms up for `record`."""
        return nullcontext()

    def waits(self) -> AbstractContextManager[list[str]]:
        """Return a context that gives a list; within it, each operation that waits for the device is noted there."""
        return nullcontext([])

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """Return what does again, without Python, what `function` asks of the device; it is not done by recording.

        Raises:
            RuntimeError: `function` cannot be recorded, or raised that; nothing was done.
        """
        raise NotImplementedError

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, averaged over the processes, to the parameters' gradients."""
        loss.backward()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of `tensor` over all processes, in every process."""
        return tensor

    def minimum(self, tensor: Tensor) -> Tensor:
        """Return the smallest of each element of `tensor` over all processes, in every process."""
        return tensor

    def highest(self, number: int) -> int:
        """Return the highest `number` of all processes. Host memory only: it never waits for a GPU."""
        return number

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process."""
        return self.highest(int(flag)) > 0

    def barrier(self) -> None:
        """Wait until every process is here."""

    def synchronise(self, model: nn.Module) -> None:
        """Let the model's BatchNorm layers compute their statistics over all processes, in place."""

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers (BatchNorm statistics, indices of references).

        DDP does so before each step with those that are floating-point numbers, as integers change between epochs only.
        """

    def fail(self, error: Exception) -> None:
        """Raise `error`, which every process has met at the same point, once: the others leave in silence."""
        raise error

    def scaler_state(self) -> dict[str, Any]:
        """Return the state of the fp16 loss scaler: plain numbers, empty where there is none."""
        return {}

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Take up a state of `scaler_state`; one of another precision is of no use and is left."""

    def __str__(self) -> str:
        return "CPU" + ("" if self.precision == "32" else f", {self.precision}")
