"""Images as people have them, Pillow's, arrays of bytes or paths, and how a network takes them.

Below what stores and above what decodes: storing itself knows tensors alone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mess.data.decode import FAULTS, CorruptImageError, EncodedImage, pixels_of
from mess.data.folder import ENDINGS
from mess.data.info import KNOWN, check_normalisation, takes_sizes
from mess.data.views import centre_view
from mess.errors import DataError, OptionError
from mess.models.described import SIZES, check_sizes

__all__ = ["ENDINGS", "FACTS", "InputView", "are_images", "first_said", "input_view", "is_image"]

MARGIN = 256 / 224  # shorter side before the crop over the crop, where nothing is said of it
FACTS = ("mean", "std", *SIZES)


@dataclass(frozen=True)
class InputView:
    """How a network takes images.

    Attributes:
        resize, crop: shorter side before the centre crop, and its side, in pixels; images of the latter's size are
            taken as they are.
        mean, std: of R, G, B in 0…1, three numbers each.
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, images: Sequence[Any]) -> Tensor:
        """Return images as the network takes them, (N, 3, crop, crop) float32.

        Raises:
            DataError: an image that cannot be read.
        """
        seen = torch.stack([self._seen(_pixels(image)) for image in images])
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        return (seen.float() / 255 - mean) / std

    def _seen(self, pixels_HWC: np.ndarray) -> Tensor:
        fits = pixels_HWC.shape[:2] == (self.crop, self.crop)
        return centre_view(pixels_HWC, self.crop if fits else self.resize, self.crop)


def input_view(
    facts: Mapping[str, Any], dataset: str | None, typed: Mapping[str, Any] | None = None, *, side: int | None = None
) -> InputView:
    """Return how a network takes images: as is typed, else as facts say, else as its dataset's are.

    All that tests, trains, calibrates, predicts or exports asks this one function.

    Args:
        facts, typed: `FACTS` as far as they are said; of anything else in them no notice is taken.
        dataset: whose images the network is for; a folder's are taken as ImageNet's are. None: not known.
        side: of what the network takes, where it says so itself, in pixels. The shorter side of images becomes as long,
            unless a `resize` is said for this very side.

    Raises:
        OptionError: nothing says how, or a number that cannot be.
    """
    said = first_said(typed or {}, facts)
    known = None if dataset is None else KNOWN.get(dataset, KNOWN["imagenet"])
    usual: dict[str, Any] = {}
    if known is not None:
        usual = {"mean": known.mean, "std": known.std, "crop": known.image_size}
    wanted = usual | said | ({} if side is None else {"crop": side})
    if missing := [name for name in ("mean", "std", "crop") if name not in wanted]:
        expected = "about={'mean': (R, G, B), 'std': (R, G, B), 'crop': side} beside images, as the network takes them"
        raise OptionError("calibration", expected, f"no {', '.join(missing)}")
    check_normalisation(wanted["mean"], wanted["std"])
    check_sizes(wanted)
    crop = wanted["crop"]
    if side is not None and said.get("crop", side) != side:
        wanted.pop("resize", None)  # it is said for another crop
    whole = side is not None or (dataset is not None and not takes_sizes(dataset))
    resize = wanted.get("resize", crop if whole else round(crop * MARGIN))
    return InputView(resize, crop, tuple(wanted["mean"]), tuple(wanted["std"]))


def first_said(*said: Mapping[str, Any]) -> dict[str, Any]:
    """Return `FACTS` as the first says them, else the next, as far as one says them."""
    return {name: value for facts in reversed(said) for name in FACTS if (value := facts.get(name)) is not None}


def is_image(value: object) -> bool:
    """Return whether a value is one image: Pillow's, (height, width, 3) uint8, a path, or the bytes of a file."""
    if isinstance(value, Mapping):  # of the Hugging Face library, where it does not decode
        return isinstance(value.get("bytes") or value.get("path"), bytes | str)
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3
    if isinstance(value, Tensor):
        return value.dtype == torch.uint8 and value.dim() == 3 and value.shape[0] == 3
    return isinstance(value, Image.Image | str | os.PathLike)


def are_images(array: np.ndarray) -> bool:
    """Return whether an array is images, (N, height, width, 3) uint8, and no (N, 3, height, width)."""
    return array.ndim == 4 and array.shape[1] != 3 and len(array) > 0 and is_image(array[0])


def _pixels(image: Any) -> np.ndarray:
    """Return (height, width, 3) uint8, upright."""
    if isinstance(image, Mapping):
        content = image.get("bytes")
        image = image["path"] if content is None else io.BytesIO(content)
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0).contiguous().numpy()
    if isinstance(image, np.ndarray):
        return image
    try:
        if isinstance(image, str | os.PathLike):
            return EncodedImage(Path(image)).pixels()
        return pixels_of(image if isinstance(image, Image.Image) else Image.open(image))
    except CorruptImageError as error:
        raise DataError(error.args[0], "an image", "one that cannot be read") from error
    except FAULTS as error:
        raise DataError("calibration", "images that can be read", error) from error
