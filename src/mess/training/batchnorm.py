"""Giving BatchNorm its statistics back, after a form that keeps only what it computes."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mess.arithmetic.batch_norm import scale_and_shift
from mess.training.evaluation import BatchSource
from mess.training.modes import in_eval_mode


@torch.no_grad()
def refresh_statistics(model: nn.Module, batches: BatchSource, n: int = 10) -> int:
    """Measure the statistics of every BatchNorm's input and rewrite the layer around them.

    A `.mess` file keeps BatchNorm as x·scale + shift. Loaded as mean 0, variance 1, the layer *computes* the same in
    eval mode, but its weight and bias are not those that belong behind a normalised input, so training would start from
    another function. With the true mean m and variance v of its input, weight = scale·√(v + eps) and
    bias = shift + m·scale compute the same again, and in train mode nearly the same.

    Args:
        model: measured in eval mode; each module is left in the mode it came in.
        batches: training images on the model's device; the first `n` batches of epoch 0 are used.
        n: batches to measure on; the more the better, 10 of 128 are plenty.

    Returns:
        How many layers were rewritten.
    """
    layers = [layer for layer in model.modules() if _computes_affine(layer)]
    moments = [_Moments() for _ in layers]
    with ExitStack() as stack:
        stack.enter_context(in_eval_mode(model))
        for layer, moment in zip(layers, moments, strict=True):
            stack.enter_context(layer.register_forward_pre_hook(moment.hear))
        for images_NCHW, _ in islice(batches.epoch(0), n):
            model(images_NCHW)
    seen = [(layer, moment) for layer, moment in zip(layers, moments, strict=True) if moment.count > 1]
    for layer, moment in seen:
        _rewrite(layer, moment.mean, moment.sum_of_squares / (moment.count - 1))
    return len(seen)


def _computes_affine(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.affine and layer.track_running_stats


class _Moments:
    """Mean and squared deviations by channel, batch by batch, in float64 (Chan, Golub & LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self.sum_of_squares: Tensor = torch.zeros(())

    def hear(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x_CM = inputs[0].double().transpose(0, 1).flatten(1)
        count, mean = x_CM.shape[1], x_CM.mean(1)
        squares = (x_CM - mean[:, None]).square().sum(1)
        total, delta = self.count + count, mean - self.mean.to(mean)
        self.sum_of_squares = self.sum_of_squares.to(mean) + squares + delta.square() * (self.count * count / total)
        self.mean = self.mean.to(mean) + delta * (count / total)
        self.count = total


def _rewrite(layer: Any, mean_C: Tensor, variance_C: Tensor) -> None:
    """Put in new statistics, with the weight and bias that keep the layer's function in eval mode."""
    scale_C, shift_C = scale_and_shift(layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.eps)
    layer.running_mean.copy_(mean_C)
    layer.running_var.copy_(variance_C)
    # from the statistics as they are now stored: their rounding is taken into the weight
    layer.weight.copy_(scale_C * (layer.running_var.double() + layer.eps).sqrt())
    layer.bias.copy_(shift_C + layer.running_mean.double() * scale_C)
