"""Inputs for a network that comes without any: images whose statistics it remembers, else noise of its shape."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mess.scheme.learned import StageProgress, device_of, give_back, synthetic_inputs
from mess.scheme.learned.calls import Call, Watch

CHANNELS = (1, 3, 4)
MAX_SIDE = 4096
FEW = 16  # inputs that are no images


class Shaped(nn.Module):
    """A network that takes square images of three colours, whatever it took before: it cuts and turns them."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network says of images (N, 3, S, S)."""
        return self.network(shaped(images, self.shape))


def make_up(
    network: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    *,
    count: int | None = None,
    level: float = 1.0,
    progress: StageProgress,
) -> Tensor:
    """Return inputs (N, *shape), on the CPU: like images where the shape is that of one.

    Args:
        device: that they are made on.
        count: of images; None: as many as `synthetic_inputs` takes for good.
        level: their standard deviation, where no BatchNorm layer says it.
    """
    if not _is_image(shape):
        return torch.randn(FEW, *shape, generator=torch.Generator().manual_seed(0))
    there = Shaped(copy.deepcopy(network).to(device), shape)
    images = shaped(synthetic_inputs(there, max(shape), count, progress=progress), shape)
    give_back()  # gradients of whole passes
    return images if level == 1.0 else level * images


@torch.no_grad()
def smallest_map(network: nn.Module, images: Tensor) -> int:
    """Return the places a side of the smallest image within a network that a window moves over; 0 where none does."""
    sides: list[int] = []

    def note(_name: str, call: Call) -> None:
        if call.dimensions == 2 and max(call.kernel) > 1:
            sides.append(min(call.input.shape[-2:]))

    with Watch({id(p): name for name, p in network.named_parameters()}, before=note):
        network(images.to(device_of(network)))
    return min(sides, default=0)


def shaped(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return square images of three colours as a network takes them: cut, of so many channels, channels last."""
    last = shape[2] in CHANNELS and shape[0] not in CHANNELS
    height, width, channels = shape if last else (shape[1], shape[2], shape[0])
    cut = images[:, :, :height, :width]
    cut = cut if channels == 3 else cut[:, :1].expand(-1, channels, -1, -1)
    return (cut.movedim(1, -1) if last else cut).contiguous()


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and (shape[0] in CHANNELS or shape[2] in CHANNELS) and max(shape) <= MAX_SIDE
