"""A copy of a network to run, or one line that says why there is none, before any work starts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.scheme.learned import device_of, tensors

MAX_SAID = 200  # characters of an error message


def copy_to_run(module: nn.Module) -> nn.Module:
    """Return a copy; weights that hooks compute (masks of pruning, spectral norm) come without their history.

    What it is given to run on stays as it is, also where the network changes its input in place.

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
        copied = copy.deepcopy(module, computed)
    except Exception as error:
        raise OptionError("version v4", "a network that can be copied", _said(error)) from error
    copied.register_forward_pre_hook(_with_own_input)
    # in whatever order numbers lie in memory, sums are the same
    return copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def check_runs(module: nn.Module, inputs: Tensor) -> None:
    """Run a network on two inputs, as it is looked at later, and where it is.

    Raises:
        OptionError: inputs that it does not take, or no float tensor with a gradient among its answers.
    """
    answer = _answered(module, inputs[:2])
    found = tensors(answer)
    if not found:
        raise OptionError("version v4", "a network that answers with float tensors", type(answer).__name__)
    if not all(bool(tensor.isfinite().all()) for tensor in found):
        raise OptionError("version v4", "a network whose answers are finite", f"NaN or infinity on {_batches(inputs)}")
    if not any(tensor.requires_grad for tensor in found):
        expected = "a network whose answers have gradients, of which follows what each layer matters"
        raise OptionError("version v4", expected, "none: are torch.no_grad or NumPy within it?")


def runs(module: nn.Module, inputs: Tensor) -> bool:
    """Return whether a network takes such inputs."""
    try:
        return any(tensor.requires_grad for tensor in tensors(_answered(module, inputs)))
    except OptionError:
        return False


def _answered(module: nn.Module, inputs: Tensor) -> Any:
    """Return what a network answers; raises OptionError with what it says of inputs that it does not take."""
    probe = copy_to_run(module)
    try:
        return _answer(probe, inputs)
    except Exception as error:  # the network may raise anything
        expected = "inputs that the network runs on, one tensor a batch or a tuple of several (and labels)"
        raise OptionError("calibration", expected, f"{_batches(inputs)}, on which it says {_said(error)}") from error


def _batches(inputs: Tensor) -> str:
    return f"batches of {tuple(inputs.shape[1:])}"


def _with_own_input(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _answer(probe: nn.Module, inputs: Tensor) -> Any:
    """Return what a network answers; its gradients are computed, too, as what layers matter follows from them."""
    with torch.inference_mode(False), torch.enable_grad():
        batch = inputs.detach().to(device_of(probe), copy=True).requires_grad_(True)
        answer = probe.float().eval()(batch)
        sums = [tensor.sum() for tensor in tensors(answer) if tensor.requires_grad]
        if sums:
            torch.autograd.grad(torch.stack(sums).sum(), batch, allow_unused=True)
    return answer


def _said(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text[:MAX_SAID]
