"""ResNeXt (Xie et al. 2017, arXiv 1611.05431): bottlenecks whose 3x3 convolution is grouped."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mess.models.architecture import Architecture
from mess.models.layers import conv, init_kaiming, scaled, stack
from mess.models.resnet import EXPANSION, Bottleneck, ImageNetResNet

CIFAR_GROUP_WIDTH = {8: 64, 32: 4}  # cardinality -> width a group in the first stage: 8x64d, 32x4d
IMAGENET_GROUP_WIDTH = {50: 4, 101: 8}  # layers -> width a group: 50 32x4d, 101 32x8d


class CifarResNeXt(nn.Module):
    """9n+2 layers for 32x32 images (section 5.3 of the paper); (N, 3, H, W) → (N, classes)."""

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        groups = architecture.groups or 1
        repeats = ((architecture.layers or 0) - 2) // 9
        channels = scaled(64, architecture.width_mult)
        self.conv1 = conv(3, channels, 3)
        self.bn1 = nn.BatchNorm2d(channels)
        for stage in range(3):
            width = groups * scaled(CIFAR_GROUP_WIDTH[groups] * 2**stage, architecture.width_mult)
            out = scaled(64 * 2**stage, architecture.width_mult) * EXPANSION
            block = partial(Bottleneck, width=width, groups=groups)
            self.add_module(f"layer{stage + 1}", stack(block, channels, out, 2 if stage else 1, repeats))
            channels = out
        self.fc = nn.Linear(channels, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def resnext(architecture: Architecture) -> nn.Module:
    """Return the ResNeXt of the form the images need."""
    if architecture.cifar_form:
        return CifarResNeXt(architecture)
    groups = architecture.groups or 1
    group_width = scaled(IMAGENET_GROUP_WIDTH[architecture.layers or 0], architecture.width_mult)
    return ImageNetResNet(architecture, width_mult=1.0, middle=groups * group_width, groups=groups)
