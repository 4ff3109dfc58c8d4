"""What is put around networks to run them, and is no part of them."""

from __future__ import annotations

import copy

from torch import nn

INNER = {  # name of the wrapper's class -> where it keeps the network
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "_FabricModule": "module",
    "OptimizedModule": "_orig_mod",  # of torch.compile; may stand around parts, too
}
COMPILED = "OptimizedModule"


def plain_module(module: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel, torch.compile, AveragedModel and Fabric.

    Wrappers around the whole network are taken off, each of which may stand in another; of parts of it those of
    torch.compile, in a copy that has the same parameters and buffers: what is given stays as it is.
    """
    while _is_wrapper(module):
        module = getattr(module, INNER[type(module).__name__])
    if any(type(part).__name__ == COMPILED for part in module.modules()):
        return _with_plain_parts(module, {})
    return module


def _is_wrapper(module: nn.Module) -> bool:
    inner = INNER.get(type(module).__name__)
    return inner is not None and isinstance(getattr(module, inner, None), nn.Module)


def _with_plain_parts(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """Return a copy with copies of its parts; a part that stands in several places stays one."""
    while type(module).__name__ == COMPILED and _is_wrapper(module):
        module = getattr(module, INNER[COMPILED])
    if id(module) not in known:
        known[id(module)] = plain = copy.copy(module)
        plain._modules = {
            name: part if part is None else _with_plain_parts(part, known) for name, part in module._modules.items()
        }
    return known[id(module)]
