"""Storing does the same whatever torch has been told about arithmetic around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def usual_torch() -> Iterator[None]:
    """Compute on the CPU in float32, with gradients where they are asked for.

    Callers may stand in ``torch.inference_mode()``, in autocast, under another default device or dtype.
    """
    dtype = torch.get_default_dtype()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            if dtype != torch.float32:
                torch.set_default_dtype(dtype)
