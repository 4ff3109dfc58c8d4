"""Version 4 to the codec's form: joins `mess.scheme.learned` (tensors) with `mess.codec` (bytes).

::

    model, inputs ── learn ──► integers, references, vectors ── as_stored ──► StoredModel ──► X.mess

How coarsely is said by what may be lost, by a size in bytes of the real file, or by `divergence`: see `rates_v4`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from mess import codec
from mess.codec.quantize import BITS
from mess.conversion import Conversion, identified, layout_of, to_tensors
from mess.conversion_v4 import as_stored, reported
from mess.errors import OptionError
from mess.models import Architecture
from mess.rates_v4 import Held, Search, answers
from mess.scheme import check_weights
from mess.scheme.learned import Learned, LearnOptions, gather_inputs, synthetic_inputs
from mess.scheme.learned.inputs import MOST
from mess.scheme.learned.memory import give_back
from mess.scheme.learned.passes import Progress, silent

REST_BITS = 8
IMAGE_SIZES = {"imagenet": 224}
CIFAR_SIZE = 32
USUAL_DROP = 1.0  # points that may be lost where nothing else is said and there are inputs to measure it on
LEAST_HELD = 128  # inputs, below which a point cannot be seen
# Made-up pictures say less about the network: do not train on them, which gains nothing.
WITHOUT_IMAGES = LearnOptions(steps=0)


@dataclass(frozen=True)
class V4Options:
    """How version 4 stores; validates itself.

    Attributes:
        learning: rate and effort.
        rest_bits: of BatchNorm vectors, biases and whatever else no reference stands for: 2…12, 16 or 32.
        self_contained: names and shapes stay in the file.
        rate_given: the divergence in `learning` is to be taken; otherwise a rate is looked for at which `USUAL_DROP`
            is lost, if there are inputs to tell.
    """

    learning: LearnOptions = field(default_factory=LearnOptions)
    rest_bits: int = REST_BITS
    self_contained: bool = False
    rate_given: bool = True

    def __post_init__(self) -> None:
        if self.rest_bits not in BITS:
            raise OptionError("--rest-bits", "2…12, 16 or 32", self.rest_bits)


def v4_options(
    *,
    calibrated: bool,
    divergence: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    **others: Any,
) -> V4Options:
    """Return the options that suit a network with or without inputs to look at, with those put in that are given.

    Args:
        calibrated: whether inputs are given.
        divergence, steps, seed: fields of `LearnOptions`; None: the default.
        others: other fields of `V4Options`.
    """
    learning = LearnOptions() if calibrated else WITHOUT_IMAGES
    given: dict[str, Any] = {"divergence": divergence, "steps": steps, "seed": seed}
    learning = replace(learning, **{k: v for k, v in given.items() if v is not None})
    return V4Options(learning, rate_given=divergence is not None or not calibrated, **others)


def compress_v4(
    network: nn.Module | Mapping[str, Tensor], calibration: Iterable[Any] | Tensor | None = None, **options: Any
) -> codec.StoredModel:
    """Return what a file of version 4 says; takes and raises what `convert_v4` does."""
    return convert_v4(network, calibration, **options).stored


def convert_v4(
    network: nn.Module | Mapping[str, Tensor],
    calibration: Iterable[Any] | Tensor | None = None,
    *,
    target_size: int | None = None,
    max_drop: float | None = None,
    options: V4Options | None = None,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Conversion:
    """Store a network by learned references.

    Args:
        network: any module, or a state dict of a network of the zoo; it stays as it is.
        calibration: inputs as the network takes them (normalised): a tensor, or batches of inputs or of (inputs,
            labels). The first 1,024 are learned from. None: pictures are made up from the BatchNorm layers (networks
            of the zoo only).
        target_size: bytes of the file; what is returned encodes to 99 to 100 % of it, or less where no rate
            that is tried comes as near.
        max_drop: accuracy that may be lost, in points, as measured on inputs that are not learned from: on those after
            the first 1,024, thousands of small ones, or on the last quarter where there are not many more. With
            labels, if there are some; without, by the probability that the float network gives to both answers.
        options: rate and effort; where they leave the rate open and no target says it, a point may be lost.
        architecture: which network of the zoo a state dict is; found out if None.
        about: facts for the file: "mean" and "std" with the network, all else with the scheme.

    Raises:
        OptionError: a target that cannot be reached (with the smallest size), two targets at once, no inputs.
    """
    options = options or v4_options(calibrated=calibration is not None)
    weights, module, architecture = identified(network, architecture)
    if module is None:
        raise OptionError("version v4", "a module, or the weights of a network of the zoo", "other weights")
    if target_size is not None and max_drop is not None:
        raise OptionError("--target-size", "one target", "--max-drop as well")
    check_weights(weights)
    if calibration is not None:
        inputs, labels = gather_inputs(calibration)
        learned_from, held = _apart(inputs, labels)
    else:
        inputs = learned_from = _made_up(module, architecture, progress)
        held = Held(inputs, None)
    rate_open = target_size is None and max_drop is None and not options.rate_given
    if rate_open and len(held.inputs) >= LEAST_HELD and _says_classes(module, held):
        max_drop = USUAL_DROP
    if max_drop is None:
        learned_from = inputs[:MOST]
    elif not len(held.inputs):
        raise OptionError("--max-drop", "at least 4 calibration inputs", len(inputs))

    def store(learned: Learned) -> codec.StoredModel:
        return as_stored(learned, weights, options.rest_bits, architecture=architecture, about=about or {})

    def size(stored: codec.StoredModel) -> int:
        named = None if options.self_contained or architecture is None else layout_of
        return len(codec.encode_model(stored, named))

    search = Search(module, learned_from, held, options.learning, store, to_tensors, size, progress)
    if target_size is not None:
        stored = search.to_size(target_size)
    elif max_drop is not None:
        stored = search.to_drop(max_drop)
    else:
        stored = store(search.learned(options.learning.divergence))
    return reported(stored, weights)


def _apart(inputs: Tensor, labels: Tensor | None) -> tuple[Tensor, Held]:
    """Part what to learn from, the first `MOST` or three quarters, from what to measure on: the rest."""
    count = MOST if len(inputs) >= MOST + MOST // 4 else len(inputs) - len(inputs) // 4
    return inputs[:count], Held(inputs[count:], labels[count:] if labels is not None else None)


def _says_classes(module: nn.Module, held: Held) -> bool:
    return answers(module, held.inputs[:1]).dim() == 2


def _made_up(module: nn.Module, architecture: Architecture | None, progress: Progress) -> Tensor:
    if architecture is None:
        raise OptionError("calibration", "inputs, for a network that is not in the zoo", "none")
    small = architecture.dataset in ("cifar10", "cifar100", "digits")
    pictures = synthetic_inputs(module, CIFAR_SIZE if small else IMAGE_SIZES["imagenet"], progress=progress)
    give_back()  # gradients of whole passes
    return pictures
