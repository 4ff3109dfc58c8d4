"""The only home of CPU / one GPU / many GPUs / many processes: nothing else names CUDA or torch.distributed.

::

    devices = open_devices(cuda, gpuids, processes=2, precision="bf16")
    result = devices.launch(main, *arguments)      # in every process; only the first one comes back
    │
    ├─ Devices         one CPU process: plain torch, starts nothing, imports nothing more
    ├─ OneGpu          one GPU: the same, and steps can be captured in a CUDA graph
    └─ FabricDevices   all else, through Lightning Fabric: a process a GPU, CPU processes over gloo, torchrun

What is no training, as storing, takes a `torch.device` from `find_device` and computes on it `exactly`.

With several processes `launch` starts this very command once more for each of them (as Fabric's "ddp" does), so what
stands before `launch` runs in all of them. Under `torchrun` the processes are there already.
"""

from mess.devices.base import Devices
from mess.devices.exact import exactly, find_device
from mess.devices.fabric import FabricDevices
from mess.devices.gpu import OneGpu
from mess.devices.open import gpu_names, open_devices

__all__ = ["Devices", "FabricDevices", "OneGpu", "exactly", "find_device", "gpu_names", "open_devices"]
