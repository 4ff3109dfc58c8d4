"""The way of a weight from a network to the bytes of a `.mess` file: read from top to bottom.

::

    weights ─ identify ─► Network ─ code ─► Coded ─ complete ─► StoredModel ─ write_verified ─► X.mess
                                   (matched | learned)

`compress` and `dumps` read what they are given and make a `Request` of it; `store` builds and writes.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess import codec
from mess.codec.model_file import OWN_MODEL
from mess.codec.verification import write_verified
from mess.devices import find_device
from mess.display.sizes import parse_size
from mess.display.stages import shown
from mess.errors import OptionError
from mess.files import check_output
from mess.models import Architecture
from mess.models.described import layout_of
from mess.python_names import keywords_for_flags
from mess.scheme.learned import StageProgress, no_progress
from mess.storing import learned, matched
from mess.storing.calibration import Calibration, as_inputs, cut_for
from mess.storing.differences import relative_error
from mess.storing.entries import Coded, complete
from mess.storing.graph import answers_of, prepare
from mess.storing.layers import LayerRule, asked_of
from mess.storing.load import as_tensor
from mess.storing.network import Network, identify
from mess.storing.options import DEFAULT_VERSION, Request, StoreOptions
from mess.storing.size_report import SizeReport
from mess.storing.sources import Source, projected_in, read_source
from mess.storing.surroundings import usual_torch

log = logging.getLogger("mess.storing")


def compress(
    model_or_state_dict: Source,
    path: str | os.PathLike[str],
    scheme: str = DEFAULT_VERSION,
    calibration: Calibration = None,
    target_size: int | str | None = None,
    *,
    validation: Calibration = None,
    max_drop: float | None = None,
    divergence: float | None = None,
    seed: int = 0,
    bind: int = 2,
    quant_bits: int = 8,
    quant: bool = False,
    pointwise: int | None = None,
    linear: bool = False,
    scale_bits: int = 32,
    offset_bits: int = 32,
    rest_bits: int | None = None,
    self_contained: bool = False,
    layers: Mapping[str, LayerRule] | None = None,
    key: str | None = None,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    architecture: Architecture | None = None,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    verify: bool = True,
    device: str | torch.device = "cpu",
    progress: StageProgress | bool = True,
) -> SizeReport:
    """Store a network in one `.mess` file.

    Args:
        model_or_state_dict: any module, or any mapping of names to tensors, which stay as they are; or the path of a
            file of weights or of an ONNX model, as `mess compress` takes it.
        path: where the file goes; written in one step, so a reader sees the old file or the new one.
        scheme: version, ``"v1"`` … ``"v4"``.
        calibration: v4 only: 1,024 inputs are learned from. Either as the network takes them (normalised, first axis
            N, images NCHW): a tensor, an array, a ``.npy`` file, a dataset of tensors, or batches of inputs or of
            (inputs, labels) as a DataLoader gives; of a network of several inputs ((a, b), labels), or (a, b) where it
            does without neither (where it does, b is labels). Or plain images: a dataset of PyTorch, torchvision or
            Hugging Face, a folder, a list of Pillow images or paths, or an NHWC array of uint8; cut and normalised as
            `about` says (``{"mean": (R, G, B), "std": (R, G, B), "crop": side}``), else as the network's own file or
            dataset does. None: images are made up from the BatchNorm layers.
        validation: v4 only: other inputs, with labels or without, to measure on what is lost; in the same forms.
        target_size: v4 only: bytes, or a size such as ``"20KB"``; the file takes 99 to 100% of it, or less where
            less is needed.
        max_drop: v4 only: points of accuracy that may be lost, measured on inputs that nothing is learned from.
        divergence: v4 only: nats by which predictions may stray (of other outputs: squared error over the variance), as
            looked at before the file is written. None: 0.004, unless there is a target.
        seed: v4 only: of sampled predictions and of the order of inputs.
        bind: v3, v3a: kernels a unit (d).
        quant_bits: v2q, and with `quant`: bits that kernels are rounded to before they are matched.
        quant: round kernels in versions without rounding of their own, too.
        pointwise: v1 … v3a: elements a unit (D) of 1×1 convolutions; None stores these as they are.
        linear: v1 … v3a: with `pointwise`, cut linear layers up in the same way.
        scale_bits: v2 … v3a: bits of α: 2…12 (multiples of one step a tensor), 16 (half precision) or 32 (as they are).
        offset_bits: v2 … v3a: the same for β.
        rest_bits: the same for all that no reference stands for; None: 32, in v4 what each vector is worth.
        self_contained: keep names and shapes in the file even where the network's name says them, about 1 KB.
        layers: what is done otherwise with single layers: patterns of names of tensors or modules (a module means all
            in it; ``*`` and ``?`` as in names of files) to ``"keep"`` (stored bit for bit) or to options of their own:
            ``{"finer": 2}`` (v4: half the step, about one bit a weight more), ``{"rest_bits": 12}`` (BatchNorm, biases,
            all that no reference stands for), ``{"scale_bits": 8, "offset_bits": 8}`` (v2 … v3a). The last pattern that
            matches a tensor says all of it.
        key: where in the file of weights they are, if it has several, as ``"state_dict"``.
        arch: the network that a file of weights is of: ``"timm:NAME"``, ``"torchvision:NAME"`` (the file says it, and
            `load` builds it) or ``"package.module:function"``.
        input_shape: v4 only: of one input, as ``(3, 48, 320)``, where an ONNX model leaves it open or a network takes
            other images than 224 × 224 or 32 × 32 ones of three colours; images are made up, or cut, in this shape.
        architecture: which network of the zoo a bare state dict is of; found out where possible if None.
        about: small facts to keep in the file (JSON values), as how its input is normalised.
        overwrite: replace an existing file, as everything in Python that saves does.
        verify: read the file back in a fresh process and compare every tensor before it takes its name: about 0.3 s,
            and up to 1 s for each million bytes of file.
        device: where the network runs and references are matched, ``"cuda"`` or ``"cuda:1"``; the network itself stays
            where it is. Sums in another order than the CPU's change some integers, and the file by some bytes.
        progress: hears how far storing has come; what it raises, as Ctrl-C does, ends storing and leaves no file. True:
            bars on standard error, where that is a terminal or a notebook's; False: none.

    Raises:
        OptionError: a scheme or option that does not exist or does not fit this network, a target that cannot be
            reached (with the smallest size), no inputs, a pattern that matches nothing (with the nearest names).
        WeightsError: a tensor that cannot be stored, by name: complex, sparse, quantised, a weight with NaN or Inf
            (buffers that have some, as masks, are kept bit for bit).
        DeviceError: no GPU, or not this one.
        DataError: inputs that cannot be read, or are none.
        OutputError: an output that is no plain file, or whose folder is not there.
        FileExistsError: a file is there and `overwrite` is false.
    """
    with keywords_for_flags(), usual_torch(device := find_device(device)):
        options = StoreOptions(
            version=scheme, bind=bind, quant_bits=quant_bits, quant=quant, pointwise=pointwise, linear=linear,
            scale_bits=scale_bits, offset_bits=offset_bits, rest_bits=rest_bits, self_contained=self_contained,
            divergence=divergence, target_size=parse_size(target_size), max_drop=max_drop, seed=seed,
            layers=layers or {},
        )  # fmt: skip
        read = Path(model_or_state_dict) if isinstance(model_or_state_dict, str | os.PathLike) else None
        check_output(Path(path), overwrite=True, source=read)
        network, architecture, facts, found = read_source(model_or_state_dict, key, architecture, about, arch)
        inputs, held_out = (
            as_inputs(given, lambda: cut_for(network, architecture, facts, input_shape))
            for given in (calibration, validation)
        )
        with shown(progress, f"storing {Path(path).name}") as hears:
            request = Request(
                options, inputs, held_out, architecture, facts,
                projected=projected_in(found, options.scheme()), overwrite=overwrite, verify=verify,
                device=device, input_shape=input_shape, progress=hears or no_progress,
            )  # fmt: skip
            return store(network, path, request)


def store(network: nn.Module | Mapping[str, Tensor], path: str | os.PathLike[str], request: Request) -> SizeReport:
    """Store a network as `compress` does, with all that is asked for as one record."""
    if not request.overwrite and os.path.lexists(path):  # before minutes of work, and once more at their end
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
    path = Path(path)
    check_output(path, overwrite=True)
    with usual_torch(request.device):
        found, coded, stored, request = _build(network, request)
        tensors = codec.reconstruct(stored)  # once: they are compared, read back and reported
        answers = answers_of(found, stored, tensors, request, path)
    request.progress("writing", 0, 0)
    if request.verify:
        write_verified(path, stored, tensors, layout=request.options.layout, overwrite=request.overwrite)
    else:
        codec.write_model(path, stored, layout=request.options.layout, overwrite=request.overwrite)
    info = codec.inspect_file(path, layout=layout_of, max_bytes=OWN_MODEL)
    log.info("%s: %d bytes written%s", path, info.bytes, " and read back" if request.verify else "")
    return SizeReport(
        path,
        info.bytes,
        info.float_bytes,
        as_is=tuple((t.name, t.reason) for t in info.tensors if t.reason and t.stored != "tied"),
        error=_errors(found, stored, tensors),
        look=coded.look,
        unseen=coded.unseen,
        answers=answers,
        compared=None if stored.graph is None else answers is not None,
    )


def _build(
    network: nn.Module | Mapping[str, Tensor], request: Request
) -> tuple[Network, Coded, codec.StoredModel, Request]:
    """Return what was to be stored, what the scheme made of it, all of the file, and the request with its inputs."""
    found = identify(network, request.architecture)
    found = replace(found, asked=asked_of(request.options.layers, found.weights, found.tied))
    found, request = prepare(found, request)
    named = found.architecture.slug if found.architecture else "another network"
    log.info("%d tensors of %s", len(found.weights), named)
    coded = code(found, request)
    log.info("coded; %s", coded.look or "not looked at")
    return found, coded, assemble(found, coded, request), request


def code(network: Network, request: Request) -> Coded:
    """Let the scheme stand for what it can."""
    if request.options.scheme().learned:
        return learned.code(network, request, lambda coded: assemble(network, coded, request))
    return matched.code(network, request)


def assemble(network: Network, coded: Coded, request: Request) -> codec.StoredModel:
    """Add all that the scheme does not stand for."""
    return complete(network, coded, request.options.rest, request.about)


def _errors(network: Network, stored: codec.StoredModel, tensors: Mapping[str, codec.Tensor]) -> dict[str, float]:
    """Return the relative error of every tensor that references stand for."""
    names = [name for name, e in stored.entries.items() if isinstance(e, codec.Matched | codec.Expanded)]
    return {name: relative_error(network.weights[name].cpu(), as_tensor(*tensors[name])) for name in names}


def to_stored(network: Network, request: Request) -> codec.StoredModel:
    """Return what a file says; everything that is lost is lost in here."""
    network = replace(network, asked=asked_of(request.options.layers, network.weights, network.tied))
    with usual_torch(request.device):
        return assemble(network, code(network, request), request)


def dumps(
    model_or_state_dict: Source,
    scheme: str = DEFAULT_VERSION,
    calibration: Calibration = None,
    options: StoreOptions | None = None,
    *,
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: StageProgress | bool = True,
) -> bytes:
    """Return the bytes of the file that `compress` would write: the same arguments give the same bytes.

    Args:
        model_or_state_dict: as in `compress`.
        scheme: as in `compress`.
        calibration: as in `compress`.
        options: all else that is said in keywords there, in place of `scheme`: ``StoreOptions(target_size=20_000)``.
        about: as in `compress`.
        device: as in `compress`.
        progress: as in `compress`.

    Raises:
        OptionError, WeightsError, DeviceError: as `compress`.
    """
    with keywords_for_flags(), usual_torch(device := find_device(device)):
        if options is not None and scheme not in (DEFAULT_VERSION, options.version):
            raise OptionError("--version", f"{options.version}, as the options say", scheme)
        network, architecture, facts, found = read_source(model_or_state_dict, None, None, about)
        inputs = as_inputs(calibration, lambda: cut_for(network, architecture, facts, None))
        with shown(progress, "storing") as hears:
            options = options or StoreOptions(scheme)
            request = Request(
                options, inputs, None, architecture, facts, projected=projected_in(found, options.scheme()),
                device=device, progress=hears or no_progress,
            )  # fmt: skip
            return codec.encode_model(_build(network, request)[2], request.options.layout)
