"""Images for a network that comes without any: its BatchNorm layers remember what those it was trained on were like.

Where none does, nothing is made up: noise is no image, and what answers to it lose says nothing of answers to images (a
classifier whose BatchNorm layers had been folded away, open-nsfw, strayed 150 times as far as it seemed to).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mess.scheme.learned import StageProgress, device_of, give_back, synthetic_inputs
from mess.scheme.learned.calls import Call, Watch
from mess.scheme.learned.inputs import remembering

CHANNELS = (1, 3, 4)
MAX_SIDE = 4096
FORGETFUL = "no BatchNorm layer remembers what its inputs were like, and none are given as calibration"


class Shaped(nn.Module):
    """A network that takes square images of three colours, whatever it took before: it cuts and turns them."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network says of images (N, 3, S, S)."""
        return self.network(shaped(images, self.shape))


def remembers(network: nn.Module) -> bool:
    """Return whether a network remembers what the images that it was trained on were like."""
    return bool(remembering(network))


def make_up(
    network: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    *,
    count: int | None = None,
    progress: StageProgress,
) -> Tensor | None:
    """Return images (N, *shape), on the CPU; None where the shape is that of none.

    Args:
        network: one that `remembers`.
        device: that they are made on.
        count: of images; None: as many as `synthetic_inputs` takes for good.
    """
    if not _is_image(shape):
        return None
    there = Shaped(copy.deepcopy(network).to(device), shape)
    images = shaped(synthetic_inputs(there, max(shape), count, progress=progress), shape)
    give_back()  # gradients of whole passes
    return images


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
