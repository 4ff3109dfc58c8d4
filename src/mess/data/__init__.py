"""Images: from files on disk to normalised batches, in an order and with crops that any set-up repeats.

`open_dataset` finds the images, `Batches` gives them out. CIFAR-size sets live on the device as uint8; ImageNet and own
folders are decoded by workers. `stateless` is where every random draw comes from.
"""

from mess.data.folder import ImageFolder
from mess.data.info import DatasetInfo, ImageSet, dataset_names
from mess.data.loader import Batches
from mess.data.open import open_dataset

__all__ = ["Batches", "DatasetInfo", "ImageFolder", "ImageSet", "dataset_names", "open_dataset"]
