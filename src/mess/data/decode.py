"""From an image's file to its pixels: whatever its format and mode, upright, as RGB.

Most images are plain JPEGs: `simplejpeg` (libjpeg-turbo) decodes them straight into an array, to the very values that
Pillow gives, in half the time. All others, and every file it finds fault with, go through Pillow, which decides what is
corrupt.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # a platform it has no wheel for: Pillow decodes the same pixels
    simplejpeg = None

ORIENTATION = 0x0112  # EXIF tag, 1 to 8 (CIPA DC-008, 4.6.5.1)
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1  # TIFF tags, and unsigned integers (TIFF 6.0, section 19)
JPEG = ("JPEG", "MPO")  # MPO: several JPEGs in a file, as telephones write them; the first is the image
PLAIN = ("RGB", "L")  # modes of the JPEGs that need no more than decoding
FACTORS = (8, 4, 2)  # by which a JPEG can be decoded smaller, at a fraction of the cost

# what Pillow's readers raise of damaged files: each plugin its own, and none in common
FAULTS = (
    OSError, ValueError, SyntaxError, RuntimeError, LookupError, TypeError, ArithmeticError, AttributeError, EOFError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

ImageFile.LOAD_TRUNCATED_IMAGES = False  # a cut-off image is reported, never filled with grey


class CorruptImageError(Exception):
    """An image that cannot be decoded; carries its path and the reason."""


class EncodedImage:
    """An open image.

    Attributes:
        size: (width, height) of the upright image.

    Raises:
        CorruptImageError: here and in `pixels`, it cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._content = path.read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged EXIF, which ImageNet has some of: it is then left alone
                self._image = Image.open(io.BytesIO(self._content))
                if self._image.format not in JPEG:
                    self._image.load()  # only then do some formats say their orientation
                self._orientation = _orientation(self._image)
        except UnidentifiedImageError as error:
            raise CorruptImageError(f"{path} (no image of a known kind)") from error
        except FAULTS as error:
            raise CorruptImageError(f"{path} ({error})") from error
        width, height = self._image.size
        self.size = (height, width) if self._orientation >= 5 else (width, height)

    def pixels(self, shrink: float = 1.0) -> np.ndarray:
        """Return (height, width, 3) uint8.

        Transparent pixels show white, 16-bit greys and floats in 0…1 are scaled to bytes.

        Args:
            shrink: a JPEG may be decoded smaller by a power of two up to this, its sides rounded up.
        """
        factor = next((f for f in FACTORS if f <= shrink), 1) if self._image.format in JPEG else 1
        try:
            return _upright(self._decoded(factor), self._orientation)
        except FAULTS as error:
            raise CorruptImageError(f"{self.path} ({error})") from error

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


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return an open image, upright, as `EncodedImage.pixels` does: (height, width, 3) uint8."""
    return _upright(np.array(_as_rgb(image), dtype=np.uint8), _orientation(image))


def _orientation(image: Image.Image) -> int:
    if image.format in JPEG and "exif" not in image.info:
        return 1
    found = image.getexif().get(ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _upright(pixels_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror as EXIF says; a view."""
    if orientation >= 5:
        pixels_HWC = pixels_HWC.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return pixels_HWC[::-1] if orientation in (3, 4, 7, 8) else pixels_HWC


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_in_bytes(image))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_bytes(image: Image.Image) -> np.ndarray:
    """Return greys of more than 8 bits as uint8, scaled by what their file says they may be, never by what they are.

    Else a dark image would come out as bright as a light one.

    Raises:
        ValueError: greys whose range the file does not say.
    """
    grey = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(grey).all() or grey.min(initial=0) < 0 or grey.max(initial=0) > 1:
            raise ValueError("floating-point greys, which have to be within 0 and 1")
        return np.rint(grey * 255).astype(np.uint8)
    bits = _bits(image)
    if bits > 16 or grey.min(initial=0) < 0 or grey.max(initial=0) >> bits:
        raise ValueError("greys of more than 16 bits, or with a sign: what is white is not said")
    return np.rint(grey * (255 / (2**bits - 1))).astype(np.uint8)


def _bits(image: Image.Image) -> int:
    """Return the bits of a grey: of TIFFs as their tags say, of all else that Pillow gives so (PNG, PGM) 16."""
    if image.format != "TIFF":
        return 16  # Pillow scales PGMs to it
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits, form = tags.get(BITS_PER_SAMPLE, 1), tags.get(SAMPLE_FORMAT, 1)
    bits, form = (x[0] if isinstance(x, tuple) else x for x in (bits, form))
    return int(bits) if form == UNSIGNED else 32
