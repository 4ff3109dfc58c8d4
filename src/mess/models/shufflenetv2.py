"""ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164): split, transform one half, concatenate, shuffle.

Names and shapes are torchvision's. On 32x32 images the stem keeps the size and does not pool.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mess.models.architecture import Architecture
from mess.models.layers import channel_shuffle, conv, conv_bn_relu, stack

# widths of stages 2 to 4 and of the last convolution, table 5 of the paper
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
REPEATS = (4, 8, 4)
STEM = 24


class ShuffleV2Unit(nn.Module):
    """At stride 1 half of the channels passes unchanged; at stride 2 both branches see all of them (figure 3 c, d)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        self.branch1 = nn.Sequential() if stride == 1 else nn.Sequential(
            conv(in_channels, in_channels, 3, stride, groups=in_channels),
            nn.BatchNorm2d(in_channels),
            *conv_bn_relu(in_channels, half, 1),
        )  # fmt: skip
        self.branch2 = nn.Sequential(
            *conv_bn_relu(in_channels if stride == 2 else half, half, 1),
            conv(half, half, 3, stride, groups=half),
            nn.BatchNorm2d(half),
            *conv_bn_relu(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        if self.stride == 1:
            kept, changed = x.chunk(2, dim=1)
            return channel_shuffle(torch.cat([kept, self.branch2(changed)], 1), 2)
        return channel_shuffle(torch.cat([self.branch1(x), self.branch2(x)], 1), 2)


class ShuffleNetV2(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits."""

    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.cifar_form = architecture.cifar_form
        *widths, last = WIDTHS[architecture.width_mult]
        self.conv1 = conv_bn_relu(3, STEM, 3, 1 if self.cifar_form else 2)
        width = STEM
        for stage, (out, repeats) in enumerate(zip(widths, REPEATS, strict=True), start=2):
            self.add_module(f"stage{stage}", stack(ShuffleV2Unit, width, out, 2, repeats))
            width = out
        self.conv5 = conv_bn_relu(width, last, 1)
        self.fc = nn.Linear(last, architecture.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = self.conv1(images)
        if not self.cifar_form:
            x = F.max_pool2d(x, 3, 2, padding=1)
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean([2, 3]))
