"""From a picture's file to its pixels: whatever its format and mode, upright, as RGB.

Most pictures are plain JPEGs: `simplejpeg` (libjpeg-turbo) decodes them straight into an array, to the very values that
Pillow gives, in half the time. All others, and every file it finds fault with, go through Pillow, which decides what is
corrupt.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

try:
    import simplejpeg
except ImportError:  # a platform it has no wheel for: Pillow decodes the same pixels
    simplejpeg = None

ORIENTATION = 0x0112  # EXIF tag; how the picture lies, 1 to 8 (CIPA DC-008, 4.6.5.1)
JPEG = ("JPEG", "MPO")  # MPO: several JPEGs in a file, as telephones write them; the first is the picture
PLAIN = ("RGB", "L")  # modes of the JPEGs that need no more than decoding
FACTORS = (8, 4, 2)  # by which a JPEG can be decoded smaller, at a fraction of the cost

ImageFile.LOAD_TRUNCATED_IMAGES = False  # a cut-off picture is reported, never filled with grey


class CorruptPictureError(Exception):
    """A picture that cannot be decoded; carries its path and the reason."""


class Picture:
    """An open picture.

    Attributes:
        size: (width, height) of the upright picture.

    Raises:
        CorruptPictureError: here and in `pixels`, it cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._content = path.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged EXIF, which ImageNet has some of: it is then left alone
                self._image = Image.open(io.BytesIO(self._content))
                if self._image.format not in JPEG:
                    self._image.load()  # only then do some formats say how they lie
                self._orientation = _orientation(self._image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CorruptPictureError(f"{path} ({error})") from error
        width, height = self._image.size
        self.size = (height, width) if self._orientation >= 5 else (width, height)

    def pixels(self, shrink: float = 1.0) -> np.ndarray:
        """Return (height, width, 3) uint8.

        Transparent pixels show white, 16-bit greys are scaled down.

        Args:
            shrink: a JPEG may be decoded smaller by a power of two up to this, its sides rounded up.
        """
        factor = next((f for f in FACTORS if f <= shrink), 1) if self._image.format in JPEG else 1
        try:
            return _upright(self._decoded(factor), self._orientation)
        except (OSError, ValueError, SyntaxError) as error:
            raise CorruptPictureError(f"{self.path} ({error})") from error

    def _decoded(self, factor: int) -> np.ndarray:
        image = self._image
        if simplejpeg is not None and image.format in JPEG and image.mode in PLAIN:
            least = {"min_width": -(-image.width // factor), "min_height": -(-image.height // factor)}
            try:
                return simplejpeg.decode_jpeg(self._content, "RGB", min_factor=factor, **least)
            except ValueError:
                pass  # faults that Pillow may read over
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        return np.array(_as_rgb(image), dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    if image.format in JPEG and "exif" not in image.info:
        return 1
    found = image.getexif().get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _upright(pixels_HWC: np.ndarray, lie: int) -> np.ndarray:
    """Turn and mirror as EXIF says; a view."""
    if lie >= 5:
        pixels_HWC = pixels_HWC.swapaxes(0, 1)
    if lie in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC[::-1] if lie in (3, 4, 7, 8) else pixels_HWC


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        top = 65535.0 if grey.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.clip(grey * (255.0 / top), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image if image.mode == "RGB" else image.convert("RGB")
