"""What is put around networks to run them, and is no part of them."""

from __future__ import annotations

from torch import nn

INNER = {  # name of the wrapper's class -> where it keeps the network
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "_FabricModule": "module",
    "OptimizedModule": "_orig_mod",  # of torch.compile
}


def plain_module(module: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel, torch.compile, AveragedModel and Fabric.

    Only the wrappers around the whole network are taken off; each may stand in another.
    """
    while (inner := INNER.get(type(module).__name__)) is not None and isinstance(
        getattr(module, inner, None), nn.Module
    ):
        module = getattr(module, inner)
    return module
