"""SGD with Nesterov momentum, with weight decay only where it regularises."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mess.training.options import TrainOptions


def param_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two optimizer groups: weights, which decay, and vectors (BatchNorm, biases), which do not.

    Decay of a BatchNorm scale or a bias takes capacity and regularises nothing (He et al., arXiv:1812.01187, 3.1).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.SGD:
    """Return the usual optimizer of a run."""
    return torch.optim.SGD(
        param_groups(model, options.weight_decay),
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov and options.momentum > 0,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group; a group's own ``lr_scale``, if it has one, multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
