"""Weights to a `.mess` file and back: joins the scheme (tensors) with the codec (bytes).

::

    weights ── scheme.plan ──► groups ── scheme.match ──► matches ── codec.quantize ──► StoredModel ──► X.mess
    weights ◄──────────────── codec.reconstruct ◄───────────────────────────────────── StoredModel ◄── X.mess

`mess.conversion` does the step in the middle, in both directions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mess import codec, models
from mess.codec.quantize import BITS
from mess.conversion import INPUT_FACTS, Conversion, Precision, architecture_of, layout_of, to_stored, to_tensors
from mess.errors import OptionError, WeightsError
from mess.models import Architecture
from mess.scheme import Scheme, file_tag, get_scheme
from mess.scheme.learned.passes import Progress, silent
from mess.storing_v4 import convert_v4, v4_options
from mess.verification import write_verified

LEARNED = "v4"


@dataclass(frozen=True)
class StoreOptions:
    """How weights are stored; validates itself.

    Attributes:
        version: row of the table of schemes, ``v1`` … ``v3a``.
        bind: kernels a unit (d) in v3 and v3a.
        quant_bits: bits that kernels are rounded to before they are matched, in v2q.
        pointwise: numbers a unit (D) of 1x1 convolutions; None stores these as they are.
        linear: with `pointwise`, cut linear layers up in the same way.
        scale_bits, offset_bits: bits of α and β: 32 (as they are), 16 (half precision) or 2…12 (one step a layer).
        rest_bits: the same for references and everything that no reference stands for.
        self_contained: keep names and shapes in the file even where the network's name says them.
    """

    version: str = "v2"
    bind: int = 2
    quant_bits: int = 8
    pointwise: int | None = None
    linear: bool = False
    scale_bits: int = 32
    offset_bits: int = 32
    rest_bits: int = 32
    self_contained: bool = False

    def __post_init__(self) -> None:
        for name in ("scale_bits", "offset_bits", "rest_bits"):
            if getattr(self, name) not in BITS:
                raise OptionError("--" + name.replace("_", "-"), "2…12, 16 or 32", getattr(self, name))
        if self.pointwise is not None and self.pointwise < 2:
            raise OptionError("--pointwise", "at least 2 numbers a slice", self.pointwise)
        if self.linear and self.pointwise is None:
            raise OptionError("--linear", "--pointwise D beside it", "none")
        self.scheme()

    def scheme(self) -> Scheme:
        """Return the row of the table; raises OptionError for an unknown version or an impossible number."""
        return get_scheme(self.version, bind=self.bind, quant_bits=self.quant_bits)

    @property
    def tag(self) -> str:
        """What a file's name says of the scheme: ``v2``, ``v3_d2``, ``v2q_q8``."""
        return file_tag(self.scheme())


@dataclass(frozen=True)
class SizeReport:
    """What `compress` wrote: `bytes` is the size of the file as the file system gives it.

    Attributes:
        float_bytes: the same weights as 32-bit floats (or their own dtype, if smaller), without any container.
        as_is: (name, reason) of every tensor that no reference stands for.
        error: relative error ‖w − ŵ‖² / ‖w‖² by matched layer.
    """

    path: Path
    bytes: int
    float_bytes: int
    as_is: tuple[tuple[str, str], ...]
    error: dict[str, float] = field(repr=False)

    @property
    def ratio(self) -> float:
        """How many times smaller than float the file is."""
        return self.float_bytes / self.bytes


def compress(
    model_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    scheme: str = "v2",
    calibration: Iterable[Any] | torch.Tensor | None = None,
    target_size: int | None = None,
    *,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    verify: bool = True,
    **options: Any,
) -> SizeReport:
    """Store a network in one `.mess` file.

    Args:
        model_or_state_dict: any module, or any mapping of names to tensors.
        path: where the file goes; written in one step, so a reader sees the old file or the new one.
        scheme: version, ``"v1"`` … ``"v4"``.
        calibration: v4 only: inputs as the network takes them, a tensor or batches; no labels are needed.
        target_size: v4 only: bytes of the file; it comes out at 99 to 100 % of them, or smaller where less is needed.
        architecture: which network of the zoo a bare state dict belongs to; found out where possible if None.
        about: small facts to keep in the file (JSON values): rounds of retraining, mean and std of the input.
        overwrite: replace an existing file, as everything in Python that saves does; otherwise FileExistsError.
        verify: read the file back in a fresh process and compare every tensor before `path` is touched: about 0.3 s,
            and up to 1 s for each million bytes of file.
        options: fields of `StoreOptions`; for v4 `max_drop`, and fields of `LearnOptions` and `V4Options`.

    Raises:
        OptionError: a scheme or option that does not exist or does not fit this network.
        WeightsError: a tensor that cannot be stored, by name: NaN, Inf, complex, sparse, quantised.
    """
    settings: dict[str, Any] = {
        "architecture": architecture, "about": about, "overwrite": overwrite, "verify": verify,
    }  # fmt: skip
    if scheme == LEARNED:
        return compress_learned(model_or_state_dict, path, calibration, target_size, **settings, **options)
    for name, value in (("calibration", calibration), ("target_size", target_size)):
        if value is not None:
            raise OptionError(name, f"scheme {LEARNED}, which has a rate to choose", scheme)
    known = [field.name for field in fields(StoreOptions)]
    if unknown := sorted(set(options) - set(known)):
        raise OptionError("compress", f"options {', '.join(known)}", ", ".join(unknown))
    return compress_with(model_or_state_dict, path, StoreOptions(version=scheme, **options), **settings)


def compress_with(
    model_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    chosen: StoreOptions,
    *,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    verify: bool = True,
    projected: bool = False,
) -> SizeReport:
    """Store a network as `compress` does under v1 … v3a, with its options as one record; see `to_stored`."""
    made = to_stored(
        model_or_state_dict,
        chosen.scheme(),
        Precision(chosen.scale_bits, chosen.offset_bits, chosen.rest_bits),
        pointwise=chosen.pointwise,
        linear=chosen.linear,
        architecture=architecture,
        about=about,
        projected=projected,
    )
    return _written(made, path, chosen.self_contained, overwrite, verify)


def compress_learned(
    model_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    calibration: Iterable[Any] | torch.Tensor | None = None,
    target_size: int | None = None,
    *,
    max_drop: float | None = None,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    verify: bool = True,
    progress: Progress = silent,
    **options: Any,
) -> SizeReport:
    """Store a network as `compress` does under v4; `max_drop` is in points of accuracy, see `storing_v4.convert_v4`."""
    try:
        chosen = v4_options(calibrated=calibration is not None, **options)
    except TypeError as error:
        raise OptionError(
            "compress", "options divergence, steps, rest_bits, self_contained or max_drop", error
        ) from error
    made = convert_v4(
        model_or_state_dict,
        calibration,
        target_size=target_size,
        max_drop=max_drop,
        options=chosen,
        architecture=architecture,
        about=about,
        progress=progress,
    )
    return _written(made, path, chosen.self_contained, overwrite, verify)


def _written(
    made: Conversion, path: str | os.PathLike[str], self_contained: bool, overwrite: bool, verify: bool
) -> SizeReport:
    write = write_verified if verify else codec.write_model
    size = write(Path(path), made.stored, layout=None if self_contained else layout_of, overwrite=overwrite)
    return SizeReport(Path(path), size, made.float_bytes, made.as_is, made.error)


def load_state_dict(
    path: str | os.PathLike[str], *, names: Iterable[str] | None = None, max_bytes: int = 2**31
) -> dict[str, torch.Tensor]:
    """Read the weights of a `.mess` file, or only those `names`, as ordinary tensors.

    Raises:
        FormatError: the file breaks docs/FORMAT.md, or would take more than `max_bytes` in memory.
    """
    wanted = None if names is None else list(names)
    return to_tensors(codec.read_model(path, layout=layout_of, max_bytes=max_bytes, names=wanted), wanted)


def load(path: str | os.PathLike[str]) -> nn.Module:
    """Read a network of the zoo, ready to run (in eval mode), its tensors in the dtypes that were stored.

    Raises:
        FormatError: as `load_state_dict`.
        WeightsError: the file holds weights of a network that is not in the zoo; `load_into` takes those.
    """
    stored = codec.read_model(path, layout=layout_of)
    if stored.network is None:
        raise WeightsError(
            path, "a network of the zoo", "weights of another network", "mess.load_into(model, path) takes them"
        )
    model = models.build(architecture_of(stored.network), initialised=False)
    _fill(model, to_tensors(stored), path, assign=True)
    return model.eval()


def load_into(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Read a file's weights into `model`, which must have exactly these names and shapes; returns `model`.

    Its tensors keep their own dtypes and devices.

    Raises:
        WeightsError: names that are missing or not expected, or a shape that differs; says which.
    """
    _fill(model, load_state_dict(path), path)
    return model


def read_with_description(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a file's weights, and what it says of them: "architecture" (if it names one), "scheme", "mean", "std"."""
    stored = codec.read_model(path, layout=layout_of)
    about: dict[str, Any] = {"scheme": stored.scheme}
    if stored.network is not None:
        about["architecture"] = architecture_of(stored.network).to_dict()
        about |= {name: stored.network[name] for name in INPUT_FACTS if name in stored.network}
    return to_tensors(stored), about


def read_references(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first codebook's references, float32 (K, U), and how many units point to each, int64 (K,)."""
    stored = codec.read_model(path, layout=layout_of)
    refs_KU = codec.references(stored, stored.books[0])
    uses_K = np.zeros(len(refs_KU), dtype=np.int64)
    for entry in stored.entries.values():
        if isinstance(entry, codec.Matched) and entry.book == 0:
            uses_K += np.bincount(entry.index_N, minlength=len(refs_KU))
    return refs_KU, uses_K


def _fill(
    model: nn.Module, weights: Mapping[str, torch.Tensor], path: str | os.PathLike[str], *, assign: bool = False
) -> None:
    own = model.state_dict()
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected:
        raise WeightsError(path, "the model's names", f"missing {_some(missing)}; not expected {_some(unexpected)}")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise WeightsError(f"{path}: {name}", f"shape {tuple(tensor.shape)}", tuple(weights[name].shape))
    model.load_state_dict(dict(weights), assign=assign)


def _some(names: list[str]) -> str:
    return (", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")) or "none"
