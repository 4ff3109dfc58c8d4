"""One device for work that is no training: found from its name, and computing as a CPU does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from mess.devices.open import check_gpus
from mess.errors import DeviceError, OptionError

IEEE = "ieee"  # torch's name of float32 whose products are not rounded first


def find_device(named: str | torch.device) -> torch.device:
    """Return the CPU, or the GPU of that name: "cuda" or "cuda:1".

    Raises:
        OptionError: any other device.
        DeviceError: no GPU, or not this one.
    """
    try:
        device = torch.device(named)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise OptionError("device", "cpu, cuda or cuda:N", named)
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError("device", "a GPU that torch can use", "none", "Leave it out to compute on the CPU")
    check_gpus([device.index or 0])
    return torch.device("cuda", device.index or 0)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Have a GPU compute float32 in float32 and, where it can, the same bits each time, whatever torch was told before.

    By default convolutions round what they multiply to 10 bits (TF32).
    """
    with ExitStack() as undo:
        if device.type == "cuda":
            undo.enter_context(torch.cuda.device(device))
            undo.enter_context(torch.autocast("cuda", enabled=False))
            for where, name, value in _exact_settings():
                undo.callback(setattr, where, name, getattr(where, name))
                setattr(where, name, value)
        yield


def _exact_settings() -> list[tuple[Any, str, Any]]:
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    found: list[tuple[Any, str, Any]] = [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):  # torch 2.9 and later, where the older names may refuse to answer
        return found + [(where, "fp32_precision", IEEE) for where in (cudnn.conv, cudnn.rnn, cublas)]
    return [*found, (cudnn, "allow_tf32", False), (cublas, "allow_tf32", False)]
