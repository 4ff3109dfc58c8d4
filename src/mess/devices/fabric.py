"""GPUs, several processes and several machines, through Lightning Fabric."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mess.devices import torchrun
from mess.devices.base import Devices, Result
from mess.devices.batchnorm import synchronise
from mess.devices.gpu import choose_kernels
from mess.errors import EXIT_BAD_INPUT, DeviceError, MessError

# our name of a precision -> Fabric's; the weights themselves are always kept in float32
FABRIC_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
GO_TIMEOUT_S = 30  # how long the first process waits for the others to leave
MAIN = "MESS_MAIN_PROCESS"  # environment variable: the id of the process that started the others


class FabricDevices(Devices):
    """GPUs or several processes, through Lightning Fabric.

    Args:
        cuda: on GPUs, else on the CPU.
        devices: GPU ids, or the number of processes on this machine.
        nodes: machines that take part (more than one only under torchrun).
    """

    def __init__(self, *, cuda: bool, devices: list[int] | int, nodes: int, precision: str) -> None:
        super().__init__(precision)
        from lightning_fabric import Fabric  # importing it takes about a second, so only where it is used

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        local = devices if isinstance(devices, int) else len(devices)
        self._several, self._nodes = local * nodes > 1, nodes
        self.fabric = Fabric(
            accelerator="cuda" if cuda else "cpu",
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if self._several else "auto",
            precision=FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]
        )
        if nodes == 1:  # a machine's own name need not resolve; 127.0.0.1 always does
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        self._launched = False
        self._control: Any = None  # the process group of `highest`
        self.world_size, self.processes_here = local * nodes, local
        self.may_restart, self.restarted, self.job = torchrun.is_here(), torchrun.restarted(), torchrun.job()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device of this process."""
        return self.fabric.device

    @property
    def rank(self) -> int:  # type: ignore[override]
        """The number of this process among all, known before `launch` too."""
        if self._launched:
            return self.fabric.global_rank
        return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) if self._several else 0

    def launch(self, function: Callable[..., Result], *args: object) -> Result:
        """Start the processes, run `function(*args)` in each and return the first one's result."""
        try:
            self._start()
            try:
                result = function(*args)
                self.barrier()  # nobody leaves before the first process has written what it has to
            except RuntimeError as error:
                if not (self._several and _peer_is_gone(error)):
                    raise
                raise DeviceError(
                    f"process {self.rank} of {self.world_size}",
                    "the others to be there",
                    "that one ended",
                    "What it said is above; the last checkpoint is kept, --resume goes on",
                ) from error
        except BaseException as error:
            for process in self._children():
                process.kill()
            if isinstance(error, KeyboardInterrupt) and not self.is_main:
                _leave(_exit_code(error))  # one process says so for all
            if self._several:
                atexit.register(_leave, _exit_code(error))
            raise
        if not self.is_main:
            _leave(0)
        for process in self._children():
            with suppress(subprocess.TimeoutExpired):
                process.wait(GO_TIMEOUT_S)
        if self._several:
            torch.distributed.destroy_process_group()
        return result

    def _start(self) -> None:
        if self._several and not self.may_restart:
            if "LOCAL_RANK" in os.environ:
                _leave_with(int(os.environ.get(MAIN, os.getppid())))
            else:
                os.environ[MAIN] = str(os.getpid())
        try:
            if self.may_restart and self._several and self._nodes == 1:
                torchrun.join_this_attempt(self.device.type)
            self.fabric.launch()
            if self._several and self.device.type == "cuda":
                self._control = torch.distributed.new_group(backend="gloo")
        except (RuntimeError, ValueError) as error:
            raise DeviceError(
                f"process {self.rank} of {self.world_size}",
                "the processes to find each other",
                f"{type(error).__name__}: {str(error).splitlines()[0]}",
                "If the port is taken, set MASTER_PORT to a free one",
            ) from error
        self._launched = True

    def _children(self) -> list[subprocess.Popen]:
        return list(getattr(self.fabric.strategy.launcher, "procs", []))

    def once(self, function: Callable[[], Result]) -> Result:
        """Call `function` in the first process and send the others what it returned, over gloo."""
        if not self._several:
            return function()
        box: list[Any] = [function() if self.is_main else None]
        torch.distributed.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap for precision and, with several processes, for averaging gradients (DDP)."""
        if self._several:  # indices of references and counters are alike in all processes: no step need send them
            whole = [name for name, buffer in model.named_buffers() if not buffer.is_floating_point()]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, whole)
        forward, step = self.fabric.setup(model, optimizer)
        return forward, step

    def choose_kernels(self, *, deterministic: bool) -> None:
        """Choose on GPUs; a CPU's repeat exactly."""
        if self.device.type == "cuda":
            choose_kernels(deterministic=deterministic)

    def autocast(self) -> AbstractContextManager:
        """Return Fabric's context for the chosen precision."""
        return self.fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Backward through the scaler, if any; DDP averages the gradients meanwhile."""
        self.fabric.backward(loss)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes; the argument is left as it is."""
        return self._reduced(tensor, "SUM")

    def minimum(self, tensor: Tensor) -> Tensor:
        """Return the minimum over all processes; the argument is left as it is."""
        return self._reduced(tensor, "MIN")

    def _reduced(self, tensor: Tensor, operation: str) -> Tensor:
        if not self._several:
            return tensor
        total = tensor.clone()
        torch.distributed.all_reduce(total, op=getattr(torch.distributed.ReduceOp, operation))
        return total

    def highest(self, number: int) -> int:
        """Return the highest `number`, over gloo: it also notices at once when another process is gone."""
        if not self._several:
            return number
        box = torch.tensor(number)
        torch.distributed.all_reduce(box, op=torch.distributed.ReduceOp.MAX, group=self._control)
        return int(box)

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.fabric.barrier()

    def synchronise(self, model: nn.Module) -> None:
        """Let BatchNorm layers sum over the processes."""
        if self._several:
            synchronise(model, self.device.type)

    def share_buffers(self, model: nn.Module) -> None:
        """Broadcast the first process's buffers."""
        if self._several:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def fail(self, error: Exception) -> None:
        """Raise in the first process; the others wait for it to end them."""
        if self.is_main:
            raise error
        sys.exit(0)

    def scaler_state(self) -> dict[str, Any]:
        """Return the fp16 scaler's state."""
        return self.fabric.strategy.precision.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Take up the fp16 scaler's state, if both then and now are fp16."""
        if state and self.precision == "16":
            self.fabric.strategy.precision.load_state_dict(state)

    def __str__(self) -> str:
        what = f"{self.world_size} × " if self._several else ""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU process"
        return what + name + ("" if self.precision == "32" else f", {self.precision}")


def _leave(code: int) -> None:
    """End this process with what Python had to do done, and the rest of the interpreter's end skipped.

    A thread of gloo that wants Python's lock while the interpreter ends aborts the process ("terminate called without
    an active exception"), and joining those that wait for a dead process never returns.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(error: BaseException) -> int:
    """Return the exit code that the command line gives `error`."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return EXIT_BAD_INPUT if isinstance(error, MessError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def _peer_is_gone(error: RuntimeError) -> bool:
    """Return whether a collective failed because another process left (gloo and NCCL say so only in words)."""
    text = str(error).lower()
    return any(word in text for word in ("connection closed", "connection reset", "gloo", "nccl", "broken pipe"))


def _leave_with(main: int) -> None:
    """End this process when the one that started it is gone, also while it waits for that one in C++."""

    def watch() -> None:
        while os.getppid() == main:
            time.sleep(1)
        os._exit(1)

    if os.name == "posix":  # elsewhere a process keeps the id of a parent that is gone
        threading.Thread(target=watch, daemon=True, name="leave-with-the-first-process").start()
