"""ResNet (He et al. 2016, arXiv 1512.03385), on CIFAR with option-A shortcuts, on ImageNet as torchvision names it.

The ImageNet form also carries ResNeXt and WideResNet, which only widen or group the middle of the bottleneck.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mess.models.architecture import Architecture
from mess.models.layers import conv, init_kaiming, scaled, stack

IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
EXPANSION = 4  # of a bottleneck's output over its width


class CifarBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut has no parameters: every second pixel, missing channels zero (option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if any(self.padding):
            x = F.pad(x, self.padding)
        return F.relu(y + x, inplace=True)


class CifarResNet(nn.Module):
    """6n+2 layers for 32x32 images (section 4.2 of the paper): widths 16, 32, 64; (N, 3, H, W) → (N, classes)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        repeats = ((architecture.layers or 0) - 2) // 6
        first, second, third = (scaled(width, architecture.width_mult) for width in (16, 32, 64))
        self.conv1 = conv(3, first, 3)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = stack(CifarBlock, first, first, 1, repeats)
        self.layer2 = stack(CifarBlock, first, second, 2, repeats)
        self.layer3 = stack(CifarBlock, second, third, 2, repeats)
        self.linear = nn.Linear(third, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a projection where the shape changes (option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride (as torchvision, "v1.5"), 1x1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, width: int, groups: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ImageNetResNet(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits, with torchvision's names.

    Args:
        architecture: says layers and classes.
        width_mult: factor on all widths.
        middle: width of the first stage's bottlenecks: 64, ResNeXt's groups · width a group, WideResNet's 64·k.
        groups: of the 3x3 convolution in the bottleneck.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(
        self, architecture: Architecture, *, width_mult: float = 1.0, middle: int = 64, groups: int = 1
    ) -> None:
        super().__init__()
        self.architecture = architecture
        layers = architecture.layers or 0
        channels = scaled(64, width_mult)
        self.conv1 = conv(3, channels, 7, 2)
        self.bn1 = nn.BatchNorm2d(channels)
        for stage, repeats in enumerate(IMAGENET_BLOCKS[layers]):
            width, out = scaled(middle * 2**stage, width_mult), scaled(64 * 2**stage, width_mult)
            block: Any = BasicBlock
            if layers >= 50:
                block, out = partial(Bottleneck, width=width, groups=groups), out * EXPANSION
            self.add_module(f"layer{stage + 1}", stack(block, channels, out, 2 if stage else 1, repeats))
            channels = out
        self.fc = nn.Linear(channels, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, 2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def resnet(architecture: Architecture) -> nn.Module:
    """Return the ResNet of the form the images need."""
    if architecture.cifar_form:
        return CifarResNet(architecture)
    return ImageNetResNet(architecture, width_mult=architecture.width_mult)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))
