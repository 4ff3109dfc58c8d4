"""Networks of imgclsmob, forward only, under their own names: what converted weights are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
BN = ("weight", "bias", "running_mean", "running_var")
MOBILENET, SHUFFLENET = (1, 2, 2, 6, 2), (4, 8, 4)  # units a stage


def random_state(names: list[str], shapes: list[torch.Size]) -> State:
    """Return tensors of these shapes whose BatchNorms let signals through."""
    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in zip(names, shapes, strict=True):
        tensor = torch.randn(shape, generator=draw)
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor = tensor.abs() + 0.5
        state[name] = tensor if tensor.ndim < 2 else tensor * (2 / tensor[0].numel()) ** 0.5
    return state


def names_of(arch: str, units: tuple[int, ...]) -> list[str]:
    """Return the names of a network's tensors, in the order in which its file has them."""
    return [*_names(arch, units), "output.weight", "output.bias"]


def _names(arch: str, units: tuple[int, ...]) -> Iterator[str]:
    def layer(conv: str, bn: str | None, *, bn_first: bool = False) -> list[str]:
        both = [f"{conv}.weight"], [f"{bn}.{kind}" for kind in BN] if bn else []
        return [*both[1], *both[0]] if bn_first else [*both[0], *both[1]]

    init = "features.init_block"
    yield from layer(init, None) if arch == "wideresnet" else layer(f"{init}.conv", f"{init}.bn")
    for stage, count in enumerate(units, start=1):
        for unit in range(1, count + 1):
            at = f"features.stage{stage}.unit{unit}"
            if arch == "mobilenet":
                for part in ("dw_conv", "pw_conv"):
                    yield from layer(f"{at}.{part}.conv", f"{at}.{part}.bn")
            elif arch == "shufflenet":
                for conv, bn in (
                    ("compress_conv1", "compress_bn1"),
                    ("dw_conv2", "dw_bn2"),
                    ("expand_conv3", "expand_bn3"),
                ):
                    yield from layer(f"{at}.{conv}", f"{at}.{bn}")
            else:
                for part in range(1, 4 if arch == "resnext" else 3):
                    name = f"{at}.body.conv{part}"
                    yield from layer(f"{name}.conv", f"{name}.bn", bn_first=arch == "wideresnet")
                if unit == 1:
                    name = f"{at}.identity_conv"
                    yield from layer(f"{name}.conv", f"{name}.bn") if arch == "resnext" else layer(name, None)
    if arch == "wideresnet":
        yield from (f"features.post_activ.bn.{kind}" for kind in BN)


def forward(arch: str, state: State, units: tuple[int, ...], x: Tensor, groups: int = 1) -> Tensor:
    """Return the logits."""

    def conv(name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def bn(name: str, x: Tensor) -> Tensor:
        weight, bias, mean, var = (state[f"{name}.{kind}"] for kind in BN)
        return F.batch_norm(x, mean, var, weight, bias)

    def block(name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        return bn(f"{name}.bn", conv(f"{name}.conv", x, stride, groups))

    def mobile_unit(at: str, x: Tensor, stride: int, _first: bool) -> Tensor:
        x = F.relu(block(f"{at}.dw_conv", x, 1 if at.startswith("features.stage1") else stride, x.shape[1]))
        return F.relu(block(f"{at}.pw_conv", x))

    def shuffle_unit(at: str, x: Tensor, stride: int, first: bool) -> Tensor:
        y = F.relu(bn(f"{at}.compress_bn1", conv(f"{at}.compress_conv1", x, groups=1 if first else groups)))
        y = y.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
        y = bn(f"{at}.dw_bn2", conv(f"{at}.dw_conv2", y, stride, y.shape[1]))
        y = bn(f"{at}.expand_bn3", conv(f"{at}.expand_conv3", y, groups=groups))
        return F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if stride == 2 else x + y)

    def next_unit(at: str, x: Tensor, stride: int, first: bool) -> Tensor:
        stride = 1 if first else stride
        y = F.relu(block(f"{at}.body.conv1", x))
        y = block(f"{at}.body.conv3", F.relu(block(f"{at}.body.conv2", y, stride, groups)))
        return F.relu(
            y + (block(f"{at}.identity_conv", x, stride) if f"{at}.identity_conv.conv.weight" in state else x)
        )

    def wide_unit(at: str, x: Tensor, stride: int, first: bool) -> Tensor:
        stride = 1 if first else stride
        active = F.relu(bn(f"{at}.body.conv1.bn", x))
        y = conv(f"{at}.body.conv1.conv", active, stride)
        y = conv(f"{at}.body.conv2.conv", F.relu(bn(f"{at}.body.conv2.bn", y)))
        return y + (conv(f"{at}.identity_conv", active, stride) if f"{at}.identity_conv.weight" in state else x)

    unit_of: dict[str, Callable[[str, Tensor, int, bool], Tensor]] = {
        "mobilenet": mobile_unit, "shufflenet": shuffle_unit, "resnext": next_unit, "wideresnet": wide_unit,
    }  # fmt: skip
    init = "features.init_block"
    x = conv(init, x) if arch == "wideresnet" else F.relu(block(init, x, 1 if arch == "resnext" else 2))
    if arch == "shufflenet":
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(units, start=1):
        for unit in range(1, count + 1):
            first = stage == unit == 1
            x = unit_of[arch](f"features.stage{stage}.unit{unit}", x, 2 if unit == 1 else 1, first)
    if arch == "wideresnet":
        x = F.relu(bn("features.post_activ.bn", x))
    return F.linear(x.mean((2, 3)), state["output.weight"], state["output.bias"])
