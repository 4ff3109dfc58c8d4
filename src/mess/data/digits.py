"""`digits`: scikit-learn's embedded 8x8 digits at 32x32, the dataset that needs no download."""

from __future__ import annotations

import numpy as np

from mess.data.info import KNOWN, ImageSet, image_set
from mess.errors import DataError

TEST_EVERY = 5  # of each class, every fifth image is for testing


def load_digits(*, train: bool) -> ImageSet:
    """Return 1,437 training or 360 test images: 0…16 grey levels, four times as large, as three equal channels.

    The images of each class are taken in turn for testing, so both parts have all classes in the same shares.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as embedded
    except ImportError as error:
        raise DataError(
            "digits", "scikit-learn, which carries it", "no scikit-learn", "pip install 'mess-cnn[demo]', or cifar10"
        ) from error
    raw = embedded()
    grey_NHW = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    large_NHW = _upscaled(grey_NHW)
    in_test = np.zeros(len(raw.target), dtype=bool)
    order = np.argsort(raw.target, kind="stable")
    in_test[order[::TEST_EVERY]] = True
    chosen = ~in_test if train else in_test
    images_NCHW = np.repeat(large_NHW[chosen, None], 3, axis=1)
    return image_set(KNOWN["digits"], images_NCHW, raw.target[chosen])


def _upscaled(images_NHW: np.ndarray, factor: int = 4) -> np.ndarray:
    """Interpolate linearly between pixel centres, in both directions; exact arithmetic in float64."""
    size = images_NHW.shape[1]
    at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    low = np.minimum(np.floor(at).astype(int), size - 2)
    part = at - low
    rows = images_NHW[:, low] * (1 - part)[:, None] + images_NHW[:, low + 1] * part[:, None]
    both = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    return np.rint(both).astype(np.uint8)
