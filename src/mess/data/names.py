"""Names of the classes of the usual datasets, for people."""

from __future__ import annotations

from importlib import import_module

from mess.data.folder import imagenet_wnids

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IN_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
NAMES = {"cifar10": CIFAR10, "cifar100": tuple(IN_CIFAR100.split()), "digits": tuple(map(str, range(10)))}
IMAGENET_CLASSES = 1000


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes as timm or torchvision has them, else their wnids."""
    for read in (_of_timm, _of_torchvision):
        try:
            names = read()
        except (ImportError, RuntimeError, AttributeError):  # not installed, or made for another build of torch
            continue
        if len(names) == IMAGENET_CLASSES:
            return names
    return imagenet_wnids()


def _of_timm() -> tuple[str, ...]:
    known = import_module("timm.data").ImageNetInfo()
    return tuple(known.index_to_description(number) for number in range(known.num_classes()))


def _of_torchvision() -> tuple[str, ...]:
    return tuple(import_module("torchvision.models").ResNet18_Weights.DEFAULT.meta["categories"])
