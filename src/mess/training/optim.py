"""SGD with Nesterov momentum, with weight decay only where it regularises; and the state of any optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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


class Sgd(torch.optim.SGD):
    """torch's SGD, without its question to torch's compiler, whose import takes as long as that of torch itself."""

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
            plain = inspect.unwrap(getattr(torch.optim.Optimizer, name))
            if "__dynamo_disable" not in vars(plain):  # where `torch._disable_dynamo` looks before it imports
                vars(plain)["__dynamo_disable"] = plain
        super().__init__(groups, **settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do a step."""
        PLAIN_STEP(self, closure)


PLAIN_STEP = inspect.unwrap(torch.optim.SGD.step)


def make_optimizer(model: nn.Module, options: TrainOptions, captured: bool = False) -> torch.optim.SGD:
    """Return the usual optimizer of a run, where its steps are captured the one that is a single operation."""
    return Sgd(
        param_groups(model, options.weight_decay),
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov and options.momentum > 0,
        fused=captured or None,
    )


def prepare_capture(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Make the learning rates tensors, which a captured step reads anew each time, and the state what it needs."""
    for group in optimizer.param_groups:
        group["lr"] = torch.full((), float(group["lr"]), device=device)
        _lay_out(optimizer, group)
    # its steps before the capture are meant to be what they are
    optimizer._warned_capturable_if_run_uncaptured = True


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group; a group's own ``lr_scale``, if it has one, multiplies it."""
    for group in optimizer.param_groups:
        own = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def plain_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return its state dict with learning rates as numbers."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def load_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Take up what `plain_state` gave, of this kind of optimizer in whatever form; settings stay as they are here.

    Raises:
        ValueError, KeyError: the state of another optimizer.
    """
    own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    rates = [group["lr"] for group in optimizer.param_groups]
    # the form decides where a state lives: it has to be this one's before it is loaded
    groups = [{**group, **mine} for group, mine in zip(saved["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**saved, "param_groups": groups})
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(rate, Tensor):
            group["lr"] = rate.fill_(float(group["lr"]))
            _lay_out(optimizer, group)


def _lay_out(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> None:
    """Lay states out in memory as their parameters are: fused optimizers take no others.

    Momentum starts at 0, which makes the first step what it is without. torch's fused SGD would make room for it in the
    first step, and where fp16's scaler leaves that step out, leave in it whatever was there.
    """
    for parameter in group["params"]:
        state = optimizer.state[parameter]
        if group.get("momentum") and state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
        for name, tensor in state.items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
