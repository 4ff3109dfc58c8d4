"""Where a run's images and weights come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mess import models
from mess.data import Batches, ImageFolder, ImageSet, open_dataset
from mess.data.info import takes_sizes
from mess.data.loader import NEEDED
from mess.devices import Devices
from mess.errors import CheckpointError
from mess.foreign.nested import common_prefix
from mess.image_inputs import FACTS, first_said, input_view
from mess.models import Architecture
from mess.models.described import SIZES
from mess.names import DATASETS
from mess.recipes.job import DataChoice
from mess.storing.sources import read_weights

Tell = Callable[[str], object]
log = logging.getLogger("mess.data")
LARGE_TEST = 1024  # images of a test's batch, at least, where starting an operation costs more than its arithmetic


def data_of(choice: DataChoice, about: Mapping[str, Any], side: int | None = None) -> DataChoice:
    """Return the choice with the mean, std and sizes a network was made for, where the user has not said others.

    Where nothing is said of one it stays None: the dataset's own. Images of sets in memory are taken as they are, and
    have no sizes.

    Args:
        about: what the network's file says.
        side: see `input_view`.

    Raises:
        OptionError: a number that cannot be.
    """
    said = first_said({part: getattr(choice, part) for part in FACTS}, about)
    resize = crop = None
    if takes_sizes(choice.name) and (side is not None or not said.keys().isdisjoint(SIZES)):
        view = input_view(said, choice.name, side=side)
        resize, crop = view.resize, view.crop
    return replace(choice, mean=said.get("mean"), std=said.get("std"), resize=resize, crop=crop)


def open_images(choice: DataChoice, *, train: bool, tell: Tell = log.warning) -> ImageSet | ImageFolder:
    """Open one split of the images `choice` names; `tell` hears what of a folder is left out."""
    images = open_dataset(
        choice.name,
        choice.datapath,
        train=train,
        mean=choice.mean,
        std=choice.std,
        jitter=choice.jitter,
        classes=choice.classes,
        **choice.sizes,
    )
    for note in images.notes if isinstance(images, ImageFolder) else ():
        tell(note)
    return images


def open_batches(
    choice: DataChoice,
    devices: Devices,
    *,
    train: bool,
    batch_size: int,
    seed: int = 0,
    sync_bn: bool = False,
    tell: Tell = log.warning,
) -> Batches:
    """Open one split of the images `choice` names, as this process's parts of global batches."""
    images = open_images(choice, train=train, tell=tell)
    if not train and devices.device.type != "cpu" and isinstance(images, ImageSet):
        batch_size = max(batch_size, LARGE_TEST)
    return Batches(
        images,
        batch_size,
        train=train,
        seed=seed,
        device=devices.device,
        rank=devices.rank,
        world_size=devices.world_size,
        workers=choice.workers,
        processes_here=devices.processes_here,
        channels_last=True,
        smallest=0 if sync_bn else NEEDED,
    )


def calibration_batches(
    choice: DataChoice, batch_size: int = 256, *, train: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training images of a dataset, neither cropped nor mirrored, as the network takes them, and labels.

    They come in the order of the stateless permutation: in that of the files the first thousands are of one class.
    """
    images = open_images(replace(choice, jitter=0.0), train=train)
    if isinstance(images, ImageFolder):
        images = replace(images, train=False)
    batches = Batches(images, min(batch_size, len(images)), train=False, workers=choice.workers, shuffled=True)
    return iter(batches.epoch(0))


def calibration_inputs(choice: DataChoice, count: int = 1024) -> Tensor:
    """Return the first of these images."""
    return next(calibration_batches(choice, count))[0]


def open_network(
    path: Path, wanted: Architecture, key: str | None = None, *, classes_from_file: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Read a network from a checkpoint, any weights file or a `.mess` file, and what the file says beside it.

    Args:
        key: where in a checkpoint the weights are; see `load_weights`.
        classes_from_file: a file that says its classes says how many there are, whatever `wanted` counts in a folder.

    Raises:
        CheckpointError: the file holds another network than `wanted`; both are named.
        FormatError: a damaged `.mess` file.
    """
    weights, about = read_weights(path, key)
    described = about.get("architecture")
    if described is not None:
        found = Architecture.from_dict(described)
        if classes_from_file and about.get("classes") is not None:
            wanted = replace(wanted, num_classes=found.num_classes)
        if replace(found, dataset=wanted.dataset) != wanted:  # other images do not matter, other classes do
            named = (f"{a.slug} for {a.dataset} ({a.num_classes} classes)" for a in (wanted, found))
            raise CheckpointError(path, *named)
    return _filled(path, weights, wanted), about


def open_teacher(path: Path, taught: Architecture) -> tuple[nn.Module, Architecture, dict[str, Any]]:
    """Read a network of any architecture, as its file says or its shapes tell, with as many classes as `taught` has.

    What the file says beside it is returned as well.

    Raises:
        CheckpointError: other classes or another dataset, or weights of a network that is neither told nor `taught`.
    """
    weights, about = read_weights(path)
    if "architecture" in about:
        architecture = Architecture.from_dict(about["architecture"])
    else:
        architecture = models.recognise({name: tuple(t.shape) for name, t in weights.items()}) or taught
    if architecture.num_classes != taught.num_classes:
        raise CheckpointError(path, f"a teacher of {taught.num_classes} classes", architecture.num_classes)
    trained_on = about.get("architecture", {}).get("dataset")
    if trained_on != taught.dataset and {trained_on, taught.dataset} <= set(DATASETS):
        raise CheckpointError(path, f"a teacher for {taught.dataset}", f"one for {trained_on}")
    return _filled(path, weights, architecture), architecture, about


def _filled(path: Path, weights: dict[str, Tensor], wanted: Architecture) -> nn.Module:
    model = models.build(wanted)
    own = model.state_dict()
    if (prefix := common_prefix(weights)) and not any(name in own for name in weights):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    wrong = [n for n in own if n in weights and weights[n].shape != own[n].shape]
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in weights if n not in own]
    if wrong or missing or unexpected:
        names = (wrong + missing + unexpected)[:3]
        raise CheckpointError(path, f"the weights of {wanted.slug}", f"another network: {', '.join(names)} do not fit")
    model.load_state_dict(weights, strict=False)  # only counters of batches may be missing
    return model
