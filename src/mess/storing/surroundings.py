"""Storing does the same whatever torch has been told about arithmetic around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from mess.devices import exactly


@contextmanager
def usual_torch(device: torch.device) -> Iterator[None]:
    """Compute in float32, with gradients where they are asked for; make tensors on the CPU unless a device is named.

    Callers may stand in ``torch.inference_mode()``, in autocast, under another default device or dtype. Networks that
    draw random numbers draw the same ones each time, and callers go on with theirs.
    """
    dtype = torch.get_default_dtype()
    quiet = torch.autocast("cpu", enabled=False)
    apart = torch.random.fork_rng([device] if device.type == "cuda" else [])
    # entered only where it changes something: every operation would go through it
    home = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    with torch.inference_mode(False), torch.enable_grad(), quiet, exactly(device), home, apart:
        torch.manual_seed(0)
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            if dtype != torch.float32:
                torch.set_default_dtype(dtype)
