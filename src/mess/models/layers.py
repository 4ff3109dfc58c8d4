"""Pieces that several families share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size at stride 1 (BatchNorm follows, which has the bias)."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.ReLU | nn.ReLU6] = nn.ReLU,
) -> nn.Sequential:
    """Return a convolution, its BatchNorm and its activation."""
    convolution = conv(in_channels, out_channels, kernel, stride, groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), activation(inplace=True))


def stack(
    block: Callable[[int, int, int], nn.Module], in_channels: int, out_channels: int, stride: int, repeats: int
) -> nn.Sequential:
    """Return a stage: blocks of (in channels, out channels, stride), of which only the first changes either."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(repeats - 1)))


def make_divisible(channels: float) -> int:
    """Round a width to a multiple of 8, never down by more than 10% (MobileNetV2's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def scaled(channels: int, width_mult: float) -> int:
    """Return a width times the multiplier, at least 1 channel."""
    return max(1, round(channels * width_mult))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups: (N, g·c, H, W) → the same (ShuffleNet, arXiv 1707.01083, fig. 1)."""
    if x.is_contiguous(memory_format=torch.channels_last):  # stay so: other layers are slower on what they find else
        return x.permute(0, 2, 3, 1).unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def init_kaiming(module: nn.Module, linear_std: float | None = None) -> None:
    """Initialise as torchvision's ResNets and MobileNetV2: He et al. (arXiv 1502.01852), fan-out, BatchNorm at 1 and 0.

    Args:
        module: initialised in place, with all it holds.
        linear_std: standard deviation of linear layers' weights (then their bias is 0); None keeps torch's default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear) and linear_std is not None:
            nn.init.normal_(layer.weight, 0.0, linear_std)
            nn.init.zeros_(layer.bias)
