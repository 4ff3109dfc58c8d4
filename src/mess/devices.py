"""The only home of CPU / one GPU / many GPUs / many processes: nothing else names CUDA or torch.distributed.

::

    devices = open_devices(cuda, gpuids, processes=2, precision="bf16")
    result = devices.launch(main, *arguments)      # in every process; only the first one comes back
    │
    ├─ Devices         one CPU process: plain torch, starts nothing, imports nothing more
    └─ FabricDevices   all else, through Lightning Fabric: a process a GPU, CPU processes over gloo, torchrun

With several processes `launch` starts this very command once more for each of them (as Fabric's "ddp" does), so what
stands before `launch` runs in all of them. Under `torchrun` the processes are there already.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mess.errors import DeviceError, MessError, OptionError, one_of

__all__ = ["Devices", "FabricDevices", "open_devices", "restarted"]

Result = TypeVar("Result")

# our name of a precision -> Fabric's; the weights themselves are always kept in float32
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
GO_TIMEOUT_S = 30  # how long the first process waits for the others to leave


class Devices:
    """One CPU process. Also the interface: with one process sums are what they were and nobody else can stop us."""

    device = torch.device("cpu")
    rank = 0
    world_size = 1

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

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return what to call forward and `step()` on; `model` itself stays as it is, under its own names."""
        return model, optimizer

    def autocast(self) -> AbstractContextManager:
        """Return the context in which a forward pass has the chosen precision."""
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()

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

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers (BatchNorm statistics), as DDP does before each step."""

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
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
        )
        if cuda:  # the same set-up has to give bitwise the same run
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
        elif nodes == 1:  # a machine's own name need not resolve; 127.0.0.1 always does
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        self._launched = False
        self._control: Any = None  # the process group of `highest`
        self.world_size = local * nodes

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
        try:
            if "TORCHELASTIC_RUN_ID" in os.environ and self._several and self._nodes == 1:
                _join_this_attempt(self.device.type)
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

    def setup(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap for precision and, with several processes, for averaging gradients (DDP)."""
        forward, step = self.fabric.setup(model, optimizer)
        return forward, step

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


def open_devices(
    cuda: bool = False, gpuids: Sequence[int] = (0,), *, processes: int = 1, precision: str = "32"
) -> Devices:
    """Return the devices a run uses; nothing is started before `launch`.

    Args:
        cuda: use GPUs (``-C``).
        gpuids: which GPUs, one process each (``-g``); unused without `cuda`.
        processes: CPU processes that share a batch, without `cuda`.
        precision: arithmetic of forward and backward: "32", "bf16", or on GPUs "16".

    Raises:
        DeviceError: no GPU, or not those.
        OptionError: an impossible combination.
    """
    if precision not in PRECISIONS:
        raise OptionError("--precision", one_of(PRECISIONS, precision), precision)
    if processes < 1:
        raise OptionError("--processes", "a number of at least 1", processes)
    if cuda:
        _check_gpus(gpuids)
    elif precision == "16":
        raise OptionError("--precision", "32 or bf16 on a CPU", "16", "fp16 needs a GPU (-C)")
    if cuda and processes > 1:
        raise OptionError("--processes", "1 with -C", processes, "Name the GPUs instead: -g 0 1, one process each")
    local, nodes = _torchrun_layout()
    if local:
        if not cuda and local * nodes == 1:
            return Devices(precision)
        return FabricDevices(cuda=cuda, devices=local, nodes=nodes, precision=precision)
    if cuda:
        return FabricDevices(cuda=True, devices=list(gpuids), nodes=1, precision=precision)
    if processes > 1:
        return FabricDevices(cuda=False, devices=processes, nodes=1, precision=precision)
    return Devices(precision)


def restarted() -> bool:
    """Return whether torchrun has restarted this command after a failure, so that it should resume by itself."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _check_gpus(gpuids: Sequence[int]) -> None:
    if not torch.cuda.is_available():
        raise DeviceError("-C", "a GPU that torch can use", "none", "Leave out -C to run on the CPU")
    found = torch.cuda.device_count()
    if not gpuids or len(set(gpuids)) != len(gpuids):
        raise DeviceError("-g", "different GPU ids", " ".join(map(str, gpuids)) or "none")
    for gpu in gpuids:
        if not 0 <= gpu < found:
            there = "GPU 0" if found == 1 else f"GPUs 0 to {found - 1}"
            raise DeviceError(f"-g {gpu}", f"one of the {found} here ({there})", f"GPU {gpu}")


def _torchrun_layout() -> tuple[int, int]:
    """Return (processes on this machine, machines) if torchrun started this process, else (0, 0)."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 0
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def _join_this_attempt(device: str) -> None:
    """Join the processes of this attempt of torchrun, and not those of the one before it.

    torchrun lends its own store to the processes, with the addresses of an attempt that failed still in it
    (pytorch/pytorch#135712). On several machines attempts are counted on each by itself, so this is of no help there:
    set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun instead.
    """
    world, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        shared = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, False)
        store = torch.distributed.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
        backend = "nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, world_size=world, rank=rank)


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
    return 2 if isinstance(error, MessError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def _peer_is_gone(error: RuntimeError) -> bool:
    """Return whether a collective failed because another process left (gloo and NCCL say so only in words)."""
    text = str(error).lower()
    return any(word in text for word in ("connection closed", "connection reset", "gloo", "nccl", "broken pipe"))
