"""Kernels rounded to a few bits, one step a layer: version v2q, and training with -Q."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mess.errors import OptionError
from mess.scheme.parametrized import Parametrized


def round_to_bits(weight: Tensor, bits: int) -> Tensor:
    """Round a tensor to `bits` bits and back: s = (max − min)/(2^b − 1), q = clip(round(w/s), −2^(b−1), 2^(b−1) − 1).

    A constant tensor has no step and stays as it is. Halves round to even; the arithmetic is float32's.
    """
    numbers = weight.detach().float()
    step = (numbers.max() - numbers.min()) / (2**bits - 1)
    rounded = torch.round(numbers / step).clamp_(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
    return torch.where(step > 0, rounded, numbers).to(weight.dtype)  # no look at the step: it may be on a GPU


class RoundedTraining(Parametrized):
    """A network whose kernels run rounded to `bits` bits; the gradient passes straight through.

    Raises:
        OptionError: no convolution with kernels larger than 1x1.
    """

    def __init__(self, model: nn.Module, bits: int) -> None:
        super().__init__(model)
        for name, layer in list(model.named_modules()):
            if isinstance(layer, nn.Conv2d) and layer.weight[0, 0].numel() > 1:
                self.attach(f"{name}.weight" if name else "weight", _Rounded(bits))
        if not self.layers:
            raise OptionError("--quant", "a network with convolutions larger than 1x1", "none")


class _Rounded(nn.Module):
    """Latent kernels → rounded to a few bits."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded kernels."""
        return weight + (round_to_bits(weight, self.bits) - weight).detach()
