"""From an architecture to a network: one plain dict, name → constructor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mess.models.architecture import Architecture
from mess.models.mobilenet import MobileNet
from mess.models.mobilenetv2 import MobileNetV2
from mess.models.resnet import resnet
from mess.models.resnext import resnext
from mess.models.shufflenet import ShuffleNet
from mess.models.shufflenetv2 import ShuffleNetV2
from mess.models.wideresnet import wideresnet

ARCHITECTURES: dict[str, Callable[[Architecture], nn.Module]] = {
    "mobilenet": MobileNet,
    "mobilenetv2": MobileNetV2,
    "resnet": resnet,
    "resnext": resnext,
    "shufflenet": ShuffleNet,
    "shufflenetv2": ShuffleNetV2,
    "wideresnet": wideresnet,
}
# what initialises a tensor in place: methods of tensors, and functions of torch.nn.init that are made of them
FILLING = frozenset({"normal_", "uniform_", "fill_", "zero_", "constant_", "kaiming_normal_", "kaiming_uniform_"})


def build(architecture: Architecture, *, initialised: bool = True) -> nn.Module:
    """Build a network that is fully named; the module carries its name as `.architecture`.

    Args:
        initialised: False leaves all weights as memory has them, for a network that is filled at once.
    """
    with nullcontext() if initialised else _Uninitialised():
        return ARCHITECTURES[architecture.arch](architecture)


def layout(architecture: Architecture) -> list[tuple[str, tuple[int, ...], str]]:
    """Return (name, shape, dtype) of every entry of the state dict, in order, without allocating the network."""
    return list(_layout(architecture))


@lru_cache(maxsize=64)
def _layout(architecture: Architecture) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    with torch.device("meta"):
        state = build(architecture, initialised=False).state_dict()
    return tuple((name, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items())


class _Uninitialised(TorchFunctionMode):
    """Passes over what layers do to their fresh weights, which costs more than all else in building them.

    On tensors without data that is a second at the first call: torch imports all its operator decompositions for it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
