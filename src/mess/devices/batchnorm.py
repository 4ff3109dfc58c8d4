"""BatchNorm whose statistics are those of the whole batch, however it is split over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _SummedOverProcesses(torch.autograd.Function):
    """y = Σ x over the processes. Every process has a loss of its own, and the sum of those is what is minimised."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _SummedOverProcesses.apply(gradient)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1) over all processes, on any device.

    torch's own knows only GPUs. Parts of a batch may differ in size, and may be empty.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise, and in training follow the statistics; in tests as any BatchNorm."""
        if not self.training:
            return super().forward(x_NCHW)
        kind, x_NCHW = x_NCHW.dtype, x_NCHW.float()
        own = torch.cat([x_NCHW.sum((0, 2, 3)), x_NCHW.new_full((1,), x_NCHW.numel() / self.num_features)])
        total = _SummedOverProcesses.apply(own)
        count = total[-1].detach().clamp(min=1)
        mean_C = total[:-1] / count
        centred_NCHW = x_NCHW - mean_C[:, None, None]
        variance_C = _SummedOverProcesses.apply(centred_NCHW.square().sum((0, 2, 3))) / count
        self._follow(mean_C.detach(), variance_C.detach() * count / (count - 1).clamp(min=1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred_NCHW * scale_C[:, None, None] + self.bias[:, None, None]).to(kind)

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(variance_C, share)


def synchronise(model: nn.Module, device: str) -> None:
    """Turn the model's BatchNorm2d layers into synchronised ones, in place: same names, same tensors.

    On GPUs they are torch's, which are faster.
    """
    if device == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for layer in model.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SyncBatchNorm2d
