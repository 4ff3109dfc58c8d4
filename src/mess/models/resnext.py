"""ResNeXt (Xie et al. 2017, arXiv 1611.05431): bottlenecks whose 3x3 convolution is grouped."""

from __future__ import annotations

from functools import partial

from torch import nn

from mess.models.architecture import Architecture
from mess.models.layers import scaled
from mess.models.resnet import EXPANSION, Block, Bottleneck, ResNet, imagenet_resnet

CIFAR_GROUP_WIDTH = {8: 64, 32: 4}  # cardinality -> width a group in the first stage: 8x64d, 32x4d
IMAGENET_GROUP_WIDTH = {50: 4, 101: 8}  # layers -> width a group: 50 32x4d, 101 32x8d


def resnext(architecture: Architecture) -> nn.Module:
    """Return the ResNeXt of the form the images need; for 32x32 images 9n+2 layers (section 5.3 of the paper)."""
    groups, width_mult = architecture.groups or 1, architecture.width_mult
    if not architecture.cifar_form:
        group_width = scaled(IMAGENET_GROUP_WIDTH[architecture.layers or 0], width_mult)
        return imagenet_resnet(architecture, middle=groups * group_width, groups=groups)
    repeats = ((architecture.layers or 0) - 2) // 9
    stages: list[tuple[Block, int, int]] = []
    for stage in range(3):
        width = groups * scaled(CIFAR_GROUP_WIDTH[groups] * 2**stage, width_mult)
        block = partial(Bottleneck, width=width, groups=groups)
        stages.append((block, scaled(64 * 2**stage, width_mult) * EXPANSION, repeats))
    return ResNet(architecture, scaled(64, width_mult), stages)
