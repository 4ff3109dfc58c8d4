"""What a stored network says of images: read, cut and normalised as its file says, classes by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess import codec, storing
from mess.class_folders import as_told, class_names, digest
from mess.data.folder import ENDINGS
from mess.data.info import check_normalisation
from mess.data.names import IMAGENET_CLASSES, NAMES, imagenet_names
from mess.errors import DataError, FormatError, OptionError, WeightsError, first_few
from mess.files import files_in
from mess.foreign.catalogues import BUILT_BY
from mess.graphs.looking import CANNOT_RUN
from mess.graphs.network import GraphNetwork
from mess.image_inputs import InputView, input_view
from mess.models.described import input_told, layout_of
from mess.storing.calibration import side_of, taken_by
from mess.storing.several_inputs import needed_inputs

BATCH = 32
EPSILON = 1e-3  # by which probabilities may miss 1


@dataclass(frozen=True)
class ClassifierView(InputView):
    """How a network takes images, and what it calls what it sees.

    Attributes:
        names: of classes, in their order; empty where nothing says them.
        of_imagenet: whether the classes, if there are 1,000 without names, are ImageNet's.
    """

    names: tuple[str, ...] = ()
    of_imagenet: bool = False


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image: (class, name, probability), the likeliest first."""

    path: Path
    top: tuple[tuple[int, str, float], ...]


def open_classifier(
    path: Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Path | None = None,
    shape: tuple[int, ...] | None = None,
) -> tuple[nn.Module, ClassifierView]:
    """Read a network, and how it takes images: as is said here, else in the file, else as its dataset is.

    Args:
        classes: what names the classes, see `names_in`.

    Raises:
        FormatError: a damaged file.
        WeightsError: weights whose network cannot be built or run here, or takes other things beside images.
        OptionError: a mean or std that cannot be.
        DataError: names that cannot be read, or of other classes than the network's.
    """
    check_normalisation(mean, std)
    stored = codec.read_model(path, layout=layout_of, names=[])
    facts: Mapping[str, Any] = {**stored.scheme, **(stored.network or {})}
    model = storing.load(path)
    _check_it_runs(path, model)
    said = input_told(stored.network, stored.scheme)
    dataset = str(facts.get("dataset", "imagenet"))  # of images that no file says anything of
    try:
        view = input_view(said, dataset, {"mean": mean, "std": std}, side=side_of(model, shape))
    except OptionError as error:
        raise FormatError(path, "mean, std and sizes of images", error) from error
    told = as_told(said.get("classes"))
    names = () if classes is None else names_in(classes)
    if classes is not None and classes.is_dir() and isinstance(told, str) and digest(names) != told:
        raise DataError(classes, f"the classes that the network of {path} was trained on", first_few(names))
    usual = tuple(told) if isinstance(told, list) else NAMES.get(str(facts.get("dataset")), ())
    return model, ClassifierView(
        *(view.resize, view.crop, view.mean, view.std),
        names or usual,
        told is None and (BUILT_BY in facts or facts.get("dataset") == "imagenet"),
    )


def _check_it_runs(path: Path, model: nn.Module) -> None:
    """Raise WeightsError where a network cannot be run here, or takes other things beside images."""
    graph = model.plan if isinstance(model, GraphNetwork) else None
    if graph is not None and (unknown := graph.unknown()):
        raise WeightsError(path, "a network that can be run here", f"operators that cannot: {first_few(unknown)}")
    inputs = needed_inputs(model) if graph is None else [given.name for given in graph.inputs]
    if len(inputs) > 1:
        raise WeightsError(path, "a network of one input, an image", f"one of {len(inputs)}: {first_few(inputs)}")


def names_in(path: Path) -> tuple[str, ...]:
    """Return names of classes: of a folder those of its class folders, of a file its lines, of "imagenet" its 1,000.

    Raises:
        DataError: no file of text, or a folder without folders.
    """
    if path.is_dir():
        if names := class_names(path):
            return names
        raise DataError(path, "a folder of class folders", "none in it")
    if str(path) == "imagenet" and not path.exists():
        return imagenet_names()
    try:
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "names of classes, one a line", "no such text") from error


def images_in(named: Sequence[Path]) -> list[Path]:
    """Return the images that are named, and those in folders that are named, sorted.

    Raises:
        DataError: nothing of that name, or a folder without images.
    """
    found: list[Path] = []
    for path in named:
        inside = files_in(path, ENDINGS)
        if not inside or not path.exists():
            raise DataError(path, "an image, or a folder with images", "none")
        found += inside
    return found


@torch.inference_mode()
def predict(
    model: nn.Module,
    view: ClassifierView,
    images: Sequence[Path],
    *,
    count: int = 5,
    shape: tuple[int, ...] | None = None,
) -> Iterator[Prediction]:
    """Yield what the network says of each image.

    Raises:
        DataError: an image that cannot be read.
        WeightsError: a network whose output is no class scores.
    """
    model = model.float().eval()
    for start in range(0, len(images), BATCH):
        paths = images[start : start + BATCH]
        scores_NK = _scores(model, taken_by(model, shape, [(view.of(paths), torch.zeros(len(paths)))]))
        if view.of_imagenet and not view.names and scores_NK.shape[1] == IMAGENET_CLASSES:
            view = replace(view, names=imagenet_names())
        for path, chances_K in zip(paths, scores_NK, strict=True):
            top = chances_K.topk(min(count, len(chances_K)))
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            yield Prediction(path, tuple(_named(number, chance, view) for number, chance in pairs))


def _scores(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    """Return probabilities (N, K), one image at a time where a graph was made for one."""
    (inputs, _), *_ = batches
    alone = isinstance(model, GraphNetwork) and model.plan.inputs[0].shape[:1] == (1,)
    try:
        found = torch.cat([model(x) for x in inputs.split(1)]) if alone else model(inputs)
    except CANNOT_RUN as error:
        expected = f"a network that takes images of shape {tuple(inputs.shape[1:])}"
        raise WeightsError("the network", expected, f"one that says {str(error).strip()[:200]}") from error
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(inputs):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise WeightsError("the network", "class scores, one row an image", shape)
    sure = bool((found >= 0).all()) and bool(((found.sum(1) - 1).abs() < EPSILON).all())
    return found if sure else found.softmax(1)


def _named(number: int, chance: float, view: ClassifierView) -> tuple[int, str, float]:
    name = view.names[number] if number < len(view.names) else f"class {number}"
    return number, name, chance
