"""Decoding one picture: whatever its mode, turned as its EXIF says, cropped and resized in one call."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageFile, ImageOps

from mess.data import stateless
from mess.data.folder import ImageFolder

AREA = (0.08, 1.0)  # share of the picture that a training crop covers (Inception's recipe, arXiv 1409.4842)
ASPECT = (3 / 4, 4 / 3)  # its width over its height
ATTEMPTS = 10  # until the centre is taken instead
ORIENTATION = 0x0112  # EXIF tag

ImageFile.LOAD_TRUNCATED_IMAGES = False  # a cut-off picture is reported, never filled with grey


class CorruptPictureError(Exception):
    """A picture that cannot be decoded; carries its path and the reason."""


def load_picture(folder: ImageFolder, index: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return one picture as the network sees it: (3, crop, crop) uint8.

    Raises:
        CorruptPictureError: it cannot be decoded.
    """
    path = folder.paths[index]
    try:
        with Image.open(path) as image:
            if folder.train:
                return _training_view(image, folder, index, seed, epoch)
            return centre_view(image, folder.resize, folder.crop)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptPictureError(f"{path} ({error})") from error


def centre_view(image: Image.Image, resize: int, crop: int) -> np.ndarray:
    """Return what resizing the shorter side and cropping the centre gives, (3, crop, crop) uint8.

    One call resizes only what the crop keeps. Where the crop is larger than `resize`, the whole picture is enlarged.
    """
    image = _upright(image, None)
    shorter = max(resize, crop)
    # the whole picture's size after resizing, rounded as torchvision does, and the crop's place in it
    whole = [shorter * side // min(image.size) for side in image.size]
    first = [round((side - crop) / 2) for side in whole]
    # the same crop in pixels of the picture: each axis has its own scale, so the sampling is that of the whole picture
    scales = [side / after for side, after in zip(image.size, whole, strict=True)]
    start = [place * scale for place, scale in zip(first, scales, strict=True)]
    end = [min((place + crop) * s, side) for place, s, side in zip(first, scales, image.size, strict=True)]
    return _planes(image.resize((crop, crop), Image.Resampling.BILINEAR, box=(start[0], start[1], end[0], end[1])))


def random_box(size: tuple[int, int], seed: int, epoch: int, index: int) -> tuple[float, float, float, float]:
    """Return the crop of a training picture, as (left, top, right, bottom) in its pixels."""
    width, height = size
    sample = np.full(ATTEMPTS, index)
    # attempts draw from epochs far beyond any real one, so each is a draw of its own
    draws = [
        np.concatenate([stateless.uniform(seed, epoch + (a << 32), sample[:1], p) for a in range(ATTEMPTS)])
        for p in (stateless.AREA, stateless.ASPECT, stateless.ROW, stateless.COLUMN)
    ]
    for area_u, aspect_u, row_u, column_u in zip(*draws, strict=True):
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area_u)
        aspect = math.exp(math.log(ASPECT[0]) + math.log(ASPECT[1] / ASPECT[0]) * aspect_u)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int((width - w + 1) * column_u), int((height - h + 1) * row_u)
            return left, top, left + w, top + h
    w, h = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + max(1, w), top + max(1, h)


def _training_view(image: Image.Image, folder: ImageFolder, index: int, seed: int, epoch: int) -> np.ndarray:
    box = random_box(_upright_size(image), seed, epoch, index)
    image, scale = _drafted(image, box, folder.crop)
    box = tuple(x * s for x, s in zip(box, scale * 2, strict=True))  # type: ignore[assignment]
    image = image.resize((folder.crop, folder.crop), Image.Resampling.BILINEAR, box=box)
    planes = _planes(_jittered(image, folder.jitter, seed, epoch, index))
    if stateless.integers(seed, epoch, np.array([index]), stateless.FLIP, 2)[0]:
        planes = planes[:, :, ::-1]
    return np.ascontiguousarray(planes)


def _jittered(image: Image.Image, share: float, seed: int, epoch: int, index: int) -> Image.Image:
    """Change brightness, contrast and saturation, in this order, by factors between 1 − share and 1 + share."""
    if not share:
        return image
    for turn, enhance in enumerate((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)):
        drawn = stateless.uniform(seed, epoch + (turn << 32), np.array([index]), stateless.COLOUR)[0]
        image = enhance(image).enhance(1 + share * (2 * drawn - 1))
    return image


def _drafted(image: Image.Image, box: tuple[float, ...], crop: int) -> tuple[Image.Image, tuple[float, float]]:
    """Let the JPEG decoder scale down by a power of two where the crop stays larger than what is wanted."""
    before = _upright_size(image)
    shrink = min(box[2] - box[0], box[3] - box[1]) / crop
    image = _upright(image, shrink)
    return image, (image.size[0] / before[0], image.size[1] / before[1])


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


def _upright(image: Image.Image, shrink: float | None) -> Image.Image:
    """Decode as RGB, upright; transparent pixels over white, 16-bit greys scaled down."""
    if shrink is not None and shrink >= 2 and image.format == "JPEG":
        image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        top = 65535.0 if grey.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.clip(grey * (255.0 / top), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _planes(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)
