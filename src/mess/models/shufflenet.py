"""ShuffleNet (Zhang et al. 2018, arXiv 1707.01083): grouped pointwise convolutions and channel shuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mess.models.architecture import Architecture
from mess.models.layers import channel_shuffle, conv, init_kaiming, scaled

# width of stage 2 by number of groups (table 1 of the paper); it doubles from stage to stage
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
REPEATS = (4, 8, 4)
STEM = 24


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1 (figure 2 of the paper).

    At stride 2 the pooled input is concatenated, so the unit itself makes the channels that are missing; the bottleneck
    is a quarter of the whole output, in integers: 50, 100, 200 with 2 groups.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, *, first_grouped: bool) -> None:
        super().__init__()
        middle = out_channels // 4 // groups * groups
        made = out_channels - in_channels if stride == 2 else out_channels
        self.stride, self.groups = stride, groups
        self.conv1 = conv(in_channels, middle, 1, groups=groups if first_grouped else 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = conv(middle, middle, 3, stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = conv(middle, made, 1, groups=groups)
        self.bn3 = nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = channel_shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        if self.stride == 2:
            # what is made comes first: the paper leaves it open, and public weights are for this order
            return F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, padding=1)], 1), inplace=True)
        return F.relu(x + y, inplace=True)


class ShuffleNet(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits. On 32x32 images the stem keeps the size and does not pool."""

    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        groups = architecture.groups or 1
        self.cifar_form = architecture.cifar_form
        width = scaled(STEM, architecture.width_mult)
        self.conv1 = conv(3, width, 3, 1 if self.cifar_form else 2)
        self.bn1 = nn.BatchNorm2d(width)
        for stage, repeats in enumerate(REPEATS):
            # every width has to split into groups, and its quarter too
            unit = 4 * groups
            out = max(unit, round(WIDTHS[groups] * 2**stage * architecture.width_mult / unit) * unit)
            units = []
            for repeat in range(repeats):
                # the stem has too few channels to be grouped (section 3.2 of the paper)
                units.append(
                    ShuffleUnit(width, out, 2 if repeat == 0 else 1, groups, first_grouped=bool(stage or repeat))
                )
                width = out
            self.add_module(f"stage{stage + 2}", nn.Sequential(*units))
        self.fc = nn.Linear(width, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if not self.cifar_form:
            x = F.max_pool2d(x, 3, 2, padding=1)
        x = self.stage4(self.stage3(self.stage2(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
