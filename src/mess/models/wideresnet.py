"""WideResNet (Zagoruyko and Komodakis 2016, arXiv 1605.07146): fewer layers, k times as wide."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mess.models.architecture import Architecture
from mess.models.layers import conv, init_kaiming, scaled, stack
from mess.models.resnet import imagenet_resnet


class WideBlock(nn.Module):
    """BatchNorm and ReLU come before each 3x3 convolution; a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        y = F.relu(self.bn1(x), inplace=True)
        if self.shortcut is not None:  # the shortcut starts behind the first BatchNorm and ReLU, as the authors have it
            x = self.shortcut(y)
        y = F.relu(self.bn2(self.conv1(y)), inplace=True)
        return x + self.conv2(y)


class CifarWideResNet(nn.Module):
    """6n+4 layers for 32x32 images, widths 16k, 32k, 64k; (N, 3, H, W) → (N, classes)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        repeats = ((architecture.layers or 0) - 4) // 6
        first, second, third = (scaled(width, architecture.width_mult) for width in (16, 32, 64))
        self.conv1 = conv(3, 16, 3)
        self.layer1 = stack(WideBlock, 16, first, 1, repeats)
        self.layer2 = stack(WideBlock, first, second, 2, repeats)
        self.layer3 = stack(WideBlock, second, third, 2, repeats)
        self.bn = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, architecture.num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        x = F.relu(self.bn(x), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def wideresnet(architecture: Architecture) -> nn.Module:
    """Return the WideResNet of the form the images need."""
    if architecture.cifar_form:
        return CifarWideResNet(architecture)
    return imagenet_resnet(architecture, middle=scaled(64, architecture.width_mult))
