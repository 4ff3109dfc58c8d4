"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381): inverted residuals with linear bottlenecks.

Names and shapes are torchvision's. On 32x32 images the stem and the first stage that would halve keep the size, as is
customary: 32, 16, 8, 4.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mess.models.architecture import Architecture
from mess.models.layers import conv, conv_bn_relu, init_kaiming, make_divisible

# expansion, width, repeats, stride of the first: table 2 of the paper
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LAST = 1280
DROPOUT = 0.2
_conv_bn_relu = partial(conv_bn_relu, activation=nn.ReLU6)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1; the input is added where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_conv_bn_relu(in_channels, hidden, 1)]
        layers += [
            _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            conv(hidden, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        cifar = architecture.cifar_form
        width = make_divisible(32 * architecture.width_mult)
        layers: list[nn.Module] = [_conv_bn_relu(3, width, 3, 1 if cifar else 2)]
        for stage, (expansion, base, repeats, first_stride) in enumerate(STAGES):
            out = make_divisible(base * architecture.width_mult)
            stride = 1 if cifar and stage == 1 else first_stride
            for repeat in range(repeats):
                layers.append(InvertedResidual(width, out, stride if repeat == 0 else 1, expansion))
                width = out
        last = make_divisible(LAST * max(1.0, architecture.width_mult))
        layers.append(_conv_bn_relu(width, last, 1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(last, architecture.num_classes))
        init_kaiming(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.pool(self.features(images)).flatten(1))
