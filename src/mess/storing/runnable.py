"""A copy of a network to run, or one line that says why there is none, before any work starts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.scheme.learned import tensors

MAX_SAID = 200  # characters of what somebody else's code says


def copy_to_run(module: nn.Module) -> nn.Module:
    """Return a copy; weights that hooks compute (masks of pruning, spectral norm) come without their history.

    Raises:
        OptionError: a module that cannot be copied.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(module, computed)
    except Exception as error:
        raise OptionError("version v4", "a network that can be copied", _said(error)) from error


def check_runs(module: nn.Module, inputs: Tensor) -> None:
    """Run a network on two inputs, as it is looked at later.

    Raises:
        OptionError: inputs that it does not take, or no float tensor among its answers.
    """
    probe = copy_to_run(module)
    shape = f"batches of {tuple(inputs.shape[1:])}"
    try:
        answer = _answer(probe, inputs[:2])
    except Exception as error:
        expected = "inputs that the network runs on, one tensor a batch (and labels)"
        raise OptionError("calibration", expected, f"{shape}, on which it says {_said(error)}") from error
    found = tensors(answer)
    if not found:
        raise OptionError("version v4", "a network that answers with float tensors", type(answer).__name__)
    if not all(bool(tensor.isfinite().all()) for tensor in found):
        raise OptionError("version v4", "a network whose answers are finite", f"NaN or infinity on {shape}")


def runs(module: nn.Module, inputs: Tensor) -> bool:
    """Return whether a network takes such inputs."""
    probe = copy_to_run(module)
    try:
        _answer(probe, inputs)
    except (RuntimeError, ValueError, TypeError, IndexError):  # what torch and modules say of shapes and arguments
        return False
    return True


@torch.inference_mode()
def _answer(probe: nn.Module, inputs: Tensor) -> Any:
    return probe.cpu().float().eval()(inputs)


def _said(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text[:MAX_SAID]
