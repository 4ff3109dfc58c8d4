"""MobileNet (Howard et al. 2017, arXiv 1704.04861): depthwise 3x3, then pointwise 1x1, 13 times."""

from __future__ import annotations

from torch import Tensor, nn

from mess.models.architecture import Architecture
from mess.models.layers import conv_bn_relu, init_kaiming, scaled

# (width, stride) of the 13 pairs at ImageNet's 224x224, table 1 of the paper
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class MobileNet(nn.Module):
    """(N, 3, H, W) images → (N, classes) logits. On 32x32 images the stem keeps the size, so four halvings are left."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = scaled(32, architecture.width_mult)
        layers = [conv_bn_relu(3, width, 3, 1 if architecture.cifar_form else 2)]
        for base, stride in PAIRS:
            out = scaled(base, architecture.width_mult)
            depthwise, pointwise = conv_bn_relu(width, width, 3, stride, groups=width), conv_bn_relu(width, out, 1)
            layers.append(nn.Sequential(*depthwise, *pointwise))
            width = out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.pool(self.features(images)).flatten(1))
