"""Networks and pictures for the tests of version 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mess
from mess.scheme.learned.inputs import natural_noise


def small_network(seed: int = 0) -> nn.Module:
    """Dense, depthwise, pointwise and linear layers, BatchNorm, and a bias."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    with torch.no_grad():
        net(torch.randn(64, 3, 8, 8))  # BatchNorm has seen something
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def pictures(count: int = 48, seed: int = 1) -> Tensor:
    return natural_noise(count, 8, seed=seed)


def zoo_network() -> nn.Module:
    torch.manual_seed(0)
    return mess.create_model("resnet", dataset="cifar10", layers=20, width_mult=0.5).eval()


def deciding_network() -> nn.Module:
    """The small one, with a last layer that makes different pictures different classes."""
    net = small_network()
    last = net[-1]
    with torch.no_grad():
        answers_NK = net(pictures(200))
        last.weight.div_(answers_NK.std(0)[:, None])
        last.bias.sub_(answers_NK.mean(0)).div_(answers_NK.std(0))
    return net


def divergence(output_NK: Tensor, expected_NK: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of class scores, in nats."""
    return F.kl_div(output_NK.log_softmax(1), expected_NK.log_softmax(1), log_target=True, reduction="batchmean")
