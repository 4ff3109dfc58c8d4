"""ResNet (He et al. 2016, arXiv 1512.03385), on CIFAR with option-A shortcuts, on ImageNet as torchvision names it.

`ResNet` also carries ResNeXt, and WideResNet on ImageNet, which only widen or group the middle of the bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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
Block = Callable[[int, int, int], nn.Module]  # of input channels, output channels, stride


class PaddedShortcut(nn.Module):
    """A shortcut without parameters: every second pixel, missing channels zero (option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return a shortcut with parameters (option B)."""
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and a shortcut that changes the shape where it changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Block = projection) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        same = stride == 1 and in_channels == out_channels
        self.downsample = None if same else shortcut(in_channels, out_channels, stride)

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
        same = stride == 1 and in_channels == out_channels
        self.downsample = None if same else projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class CifarResNet(nn.Module):
    """6n+2 layers for 32x32 images (section 4.2 of the paper): widths 16, 32, 64; (N, 3, H, W) → (N, classes)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        repeats = ((architecture.layers or 0) - 2) // 6
        block = partial(BasicBlock, shortcut=PaddedShortcut)
        first, second, third = (scaled(width, architecture.width_mult) for width in (16, 32, 64))
        self.conv1 = conv(3, first, 3)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = stack(block, first, first, 1, repeats)
        self.layer2 = stack(block, first, second, 2, repeats)
        self.layer3 = stack(block, second, third, 2, repeats)
        self.linear = nn.Linear(third, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ResNet(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits, with torchvision's names.

    On 32x32 images the stem keeps the size and does not pool.

    Args:
        architecture: says the form of the images, and classes.
        stem: channels of the first convolution.
        stages: block, output channels and number of blocks of each; all but the first halve the size.
    """

    def __init__(self, architecture: Architecture, stem: int, stages: Sequence[tuple[Block, int, int]]) -> None:
        super().__init__()
        self.architecture = architecture
        self.cifar_form = architecture.cifar_form
        self.conv1 = conv(3, stem, 3) if self.cifar_form else conv(3, stem, 7, 2)
        self.bn1 = nn.BatchNorm2d(stem)
        channels = stem
        self.stages = len(stages)
        for stage, (block, out, repeats) in enumerate(stages):
            self.add_module(f"layer{stage + 1}", stack(block, channels, out, 2 if stage else 1, repeats))
            channels = out
        self.fc = nn.Linear(channels, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if not self.cifar_form:
            x = F.max_pool2d(x, 3, 2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def imagenet_resnet(
    architecture: Architecture, *, width_mult: float = 1.0, middle: int = 64, groups: int = 1
) -> ResNet:
    """Return a network for ImageNet.

    Args:
        architecture: says layers and classes.
        width_mult: factor on all widths.
        middle: width of the first stage's bottlenecks: 64, ResNeXt's groups · width a group, WideResNet's 64·k.
        groups: of the 3x3 convolution in the bottleneck.
    """
    layers = architecture.layers or 0
    stages: list[tuple[Block, int, int]] = []
    for stage, repeats in enumerate(IMAGENET_BLOCKS[layers]):
        width, out = scaled(middle * 2**stage, width_mult), scaled(64 * 2**stage, width_mult)
        if layers >= 50:
            stages.append((partial(Bottleneck, width=width, groups=groups), out * EXPANSION, repeats))
        else:
            stages.append((BasicBlock, out, repeats))
    return ResNet(architecture, scaled(64, width_mult), stages)


def resnet(architecture: Architecture) -> nn.Module:
    """Return the ResNet of the form the images need."""
    if architecture.cifar_form:
        return CifarResNet(architecture)
    return imagenet_resnet(architecture, width_mult=architecture.width_mult)
