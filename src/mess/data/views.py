"""What a network sees of an image: the centre in tests, a random crop, mirrored and coloured by chance, in training.

Resizing is torch's, on bytes: Pillow's filter to within one level (of 255), at a third of its time.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn.functional import interpolate

from mess.data import stateless
from mess.data.decode import EncodedImage
from mess.data.folder import ImageFolder

AREA = (0.08, 1.0)  # share of the image that a training crop covers (Inception's recipe, arXiv 1409.4842)
ASPECT = (3 / 4, 4 / 3)  # its width over its height
ATTEMPTS = 10  # until the centre is taken instead
MAX_ASPECT = 8  # sides of an image to one another: of a longer one only the middle is resized in tests
PLACE_4 = np.array([stateless.AREA, stateless.ASPECT, stateless.ROW, stateless.COLUMN])

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def load_image(folder: ImageFolder, index: int, *, seed: int, epoch: int) -> Tensor:
    """Return one image as the network sees it: (3, crop, crop) uint8.

    Raises:
        CorruptImageError: it cannot be decoded.
    """
    file = EncodedImage(folder.paths[index])
    if folder.train:
        return _training_view(file, folder, index, seed, epoch)
    return centre_view(file.pixels(), folder.resize, folder.crop)


def centre_view(pixels_HWC: np.ndarray, resize: int, crop: int) -> Tensor:
    """Return what resizing the shorter side and cropping the centre gives, (3, crop, crop) uint8.

    Sides are rounded as torchvision does. Where the crop is larger than `resize`, the whole image is enlarged.
    """
    pixels_HWC = _middle(_middle(pixels_HWC).swapaxes(0, 1)).swapaxes(0, 1)
    shorter = max(resize, crop)
    height, width = (shorter * side // min(pixels_HWC.shape[:2]) for side in pixels_HWC.shape[:2])
    top, left = (round((side - crop) / 2) for side in (height, width))
    return _resized(pixels_HWC, height, width)[:, top : top + crop, left : left + crop]


def random_box(size: tuple[int, int], seed: int, epoch: int, index: int) -> Box:
    """Return the crop of a training image of this width and height."""
    width, height = size
    # attempts draw from epochs far beyond any real one, so each is a draw of its own
    epochs_A1 = epoch + (np.arange(ATTEMPTS, dtype=np.int64)[:, None] << 32)
    draws_A4 = stateless.uniform(seed, epochs_A1, index, PLACE_4).tolist()
    for area_u, aspect_u, row_u, column_u in draws_A4:
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area_u)
        aspect = math.exp(math.log(ASPECT[0]) + math.log(ASPECT[1] / ASPECT[0]) * aspect_u)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int((width - w + 1) * column_u), int((height - h + 1) * row_u)
            return left, top, left + w, top + h
    w, h = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + max(1, w), top + max(1, h)


def _training_view(file: EncodedImage, folder: ImageFolder, index: int, seed: int, epoch: int) -> Tensor:
    left, top, right, bottom = random_box(file.size, seed, epoch, index)
    # decoded smaller where the crop stays larger than what is wanted; its edges then fall on the coarser pixels
    pixels_HWC = file.pixels(min(right - left, bottom - top) / folder.crop)
    rows, columns = (
        slice(round(first * after / before), round(last * after / before))
        for first, last, before, after in zip(
            (top, left), (bottom, right), file.size[::-1], pixels_HWC.shape, strict=False
        )
    )
    view_CHW = _resized(pixels_HWC[rows, columns], folder.crop, folder.crop)
    if folder.jitter:
        view_CHW = _jittered(view_CHW, folder.jitter, seed, epoch, index)
    return view_CHW.flip(2) if stateless.integers(seed, epoch, index, stateless.FLIP, 2) else view_CHW


def _middle(pixels_HWC: np.ndarray) -> np.ndarray:
    """Leave out rows above and below where the image is far higher than wide."""
    height = min(len(pixels_HWC), MAX_ASPECT * pixels_HWC.shape[1])
    first = (len(pixels_HWC) - height) // 2
    return pixels_HWC[first : first + height]


def _resized(pixels_HWC: np.ndarray, height: int, width: int) -> Tensor:
    """Return (3, height, width) uint8 by Pillow's bilinear filter, which takes all pixels in when it makes smaller."""
    pixels_1CHW = torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)[None]
    return interpolate(pixels_1CHW, (height, width), mode="bilinear", antialias=True)[0]


def _jittered(view_CHW: Tensor, share: float, seed: int, epoch: int, index: int) -> Tensor:
    """Change brightness, contrast and saturation, in this order, by factors between 1 − share and 1 + share."""
    image = Image.fromarray(view_CHW.permute(1, 2, 0).contiguous().numpy())
    for turn, enhance in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        drawn = float(stateless.uniform(seed, epoch + (turn << 32), index, stateless.COLOUR))
        image = enhance(image).enhance(1 + share * (2 * drawn - 1))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
