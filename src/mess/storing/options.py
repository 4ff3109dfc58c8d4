"""What is asked of `compress`: how the numbers are stored, and what else there is to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mess.codec import Layout
from mess.codec.quantize import BITS
from mess.errors import OptionError
from mess.models import Architecture
from mess.models.described import layout_of
from mess.names import DEFAULT_VERSION, DIVERGENCE, REST_BITS
from mess.scheme import SCHEMES, Scheme, file_tag, get_scheme
from mess.scheme.learned import LearnOptions, StageProgress, no_progress
from mess.storing.layers import LayerRule, check_rules

# options that say nothing to some versions, and which they say something to
TAKEN_BY: Mapping[str, Callable[[Scheme], bool]] = {
    **dict.fromkeys(("scale_bits", "offset_bits"), lambda scheme: scheme.fit == "affine"),
    **dict.fromkeys(("pointwise", "linear"), lambda scheme: not scheme.learned),
    **dict.fromkeys(("divergence", "target_size", "max_drop"), lambda scheme: scheme.learned),
    "bind": lambda scheme: SCHEMES[scheme.version].bind > 1,
    "quant_bits": lambda scheme: scheme.quant_bits is not None,
}
FLAGS = {"bind": "bind_size", "quant_bits": "quant_bit"}  # that are not named as their option is


@dataclass(frozen=True)
class StoreOptions:
    """How weights are stored: the keywords of `mess.compress`, where each is described; validates itself.

    Attributes:
        version: row of the table of schemes, ``v1`` … ``v4``; `compress` calls it ``scheme``.
        target_size: bytes.
    """

    version: str = DEFAULT_VERSION
    bind: int = 2
    quant_bits: int = 8
    quant: bool = False
    pointwise: int | None = None
    linear: bool = False
    scale_bits: int = 32
    offset_bits: int = 32
    rest_bits: int | None = None
    self_contained: bool = False
    divergence: float | None = None
    target_size: int | None = None
    max_drop: float | None = None
    seed: int = 0
    layers: Mapping[str, LayerRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scheme = self.scheme()
        for name in ("scale_bits", "offset_bits", "rest_bits"):
            bits = getattr(self, name)
            if bits is not None and bits not in BITS:
                raise OptionError(_flag(name), "2…12, 16 or 32", bits)
        for name, takes in TAKEN_BY.items():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default and not takes(scheme):
                others = [version for version, other in SCHEMES.items() if takes(other)]
                raise OptionError(_flag(name), f"{', '.join(others)} beside it", self.version)
        if self.pointwise is not None and self.pointwise < 2:
            raise OptionError("--pointwise", "at least 2 numbers a slice", self.pointwise)
        if self.linear and self.pointwise is None:
            raise OptionError("--linear", "--pointwise D beside it", "none")
        if self.target_size is not None and self.max_drop is not None:
            raise OptionError("--target-size", "one target", "--max-drop as well")
        if self.max_drop is not None and not 0 < self.max_drop <= 100:
            raise OptionError("--max-drop", "points above 0, up to 100", self.max_drop)
        self.learning()
        check_rules(self.layers, scheme)

    def scheme(self) -> Scheme:
        """Return the row of the table; raises OptionError for an unknown version or an impossible number."""
        return get_scheme(self.version, bind=self.bind, quant_bits=self.quant_bits, quant=self.quant)

    @property
    def rest(self) -> int | None:
        """Bits of all that no reference stands for; None: what each vector is worth, as v4 finds it out."""
        return REST_BITS if self.rest_bits is None and not self.scheme().learned else self.rest_bits

    @property
    def tag(self) -> str:
        """What a file's name says of the scheme: ``v2``, ``v3_d2``, ``v2q_q8``."""
        return file_tag(self.scheme())

    @property
    def layout(self) -> Layout | None:
        """What says names and shapes of a network of the zoo, where the file need not say them itself."""
        return None if self.self_contained else layout_of

    def learning(self) -> LearnOptions:
        """Return the rate of v4."""
        return LearnOptions(DIVERGENCE if self.divergence is None else self.divergence, self.seed)


@dataclass(frozen=True)
class Request:
    """What is asked of `store`, beside the weights and where they go.

    Attributes:
        calibration, validation: inputs as the network takes them, a tensor or batches, with labels or without.
        made_up: calibration is no inputs of anybody's: there were none.
        projected: names of tensors that are α·R + β already, as training through the decoder leaves them, or a file of
            the same scheme: the rounding that comes before the fit lies behind them.
        device: where the network runs and references are matched; `mess.devices.find_device` gives it.

    All else is as in `mess.compress`.
    """

    options: StoreOptions = field(default_factory=StoreOptions)
    calibration: Iterable[Any] | Tensor | None = None
    validation: Iterable[Any] | Tensor | None = None
    architecture: Architecture | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    made_up: bool = False
    projected: frozenset[str] = frozenset()
    overwrite: bool = True
    verify: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    input_shape: tuple[int, ...] | None = None
    progress: StageProgress = no_progress

    def __post_init__(self) -> None:
        looked_at = {
            "--calibration": self.calibration, "--validation": self.validation, "--input-shape": self.input_shape
        }  # fmt: skip
        for flag, given in looked_at.items():
            if given is not None and not self.options.scheme().learned:
                raise OptionError(flag, "a version that looks at inputs, v4", self.options.version)
        if self.validation is not None and self.calibration is None:
            raise OptionError("--validation", "--calibration beside it, inputs to learn from", "none")


def _flag(name: str) -> str:
    return "--" + FLAGS.get(name, name).replace("_", "-")
