"""From flags to devices."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mess.devices import torchrun
from mess.devices.base import Devices
from mess.devices.fabric import FabricDevices
from mess.devices.gpu import OneGpu
from mess.errors import DeviceError, OptionError, one_of
from mess.names import PRECISIONS


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
        check_gpus(gpuids)
    elif precision == "16":
        raise OptionError("--precision", "32 or bf16 on a CPU", "16", "fp16 needs a GPU (-C)")
    if cuda and processes > 1:
        raise OptionError("--processes", "1 with -C", processes, "Name the GPUs instead: -g 0 1, one process each")
    local, nodes = torchrun.layout()
    if local:
        if cuda and local > torch.cuda.device_count():
            raise DeviceError("--nproc-per-node", f"at most {torch.cuda.device_count()}, a process a GPU", local)
        return FabricDevices(cuda=cuda, devices=local, nodes=nodes, precision=precision)
    if cuda and len(gpuids) == 1:
        return OneGpu(gpuids[0], precision)
    if cuda:
        return FabricDevices(cuda=True, devices=list(gpuids), nodes=1, precision=precision)
    if processes > 1:
        return FabricDevices(cuda=False, devices=processes, nodes=1, precision=precision)
    return Devices(precision)


def gpu_names() -> list[str]:
    """Return the names of the GPUs that torch can use, by their ids."""
    return [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]


def check_gpus(gpuids: Sequence[int]) -> None:
    """Raise DeviceError for GPUs that are not there."""
    if not torch.cuda.is_available():
        raise DeviceError("-C", "a GPU that torch can use", "none", "Leave out -C to run on the CPU")
    found = torch.cuda.device_count()
    if not gpuids or len(set(gpuids)) != len(gpuids):
        raise DeviceError("-g", "different GPU ids", " ".join(map(str, gpuids)) or "none")
    for gpu in gpuids:
        if not 0 <= gpu < found:
            there = "GPU 0" if found == 1 else f"GPUs 0 to {found - 1}"
            raise DeviceError(f"-g {gpu}", f"one of the {found} here ({there})", f"GPU {gpu}")
