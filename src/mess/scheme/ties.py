"""Which tensors of a state dict are one and the same, and which of them no file can hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from mess.errors import WeightsError
from mess.foreign.files import PACKED, QUANTISED

STORABLE = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip
MAX_NAME = 1024  # as the format has it
CONVERT = "Convert it first: tensor.float()"
LEARNED = ("weight", "bias", "running_", "original")  # how the last parts of names begin of what training makes


def find_ties(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return name → earlier name of every tensor that shows the very same numbers in the very same memory.

    The same device, storage, offset, shape, strides and dtype, as safetensors has it: a transposed view is another one.
    """
    first: dict[tuple[object, ...], str] = {}
    ties = {}
    for name, tensor in weights.items():
        if not tensor.numel():
            continue
        key = (
            tensor.device, tensor.untyped_storage().data_ptr(), tensor.storage_offset(),
            tuple(tensor.shape), tensor.stride(), tensor.dtype,
        )  # fmt: skip
        if key in first:
            ties[name] = first[key]
        else:
            first[key] = name
    return ties


def check_weights(weights: Mapping[str, Tensor], parameters: Collection[str] = ()) -> frozenset[str]:
    """Refuse what no file of ours can hold, by name; return the names of tensors that are kept whatever is asked.

    These are buffers, as masks and anchors, with NaN, infinity or numbers beyond float32 in them. A weight, or what
    BatchNorm remembers, that has such is one of a network that is broken.

    Args:
        parameters: names of what training makes; of others the names tell as well as they can.

    Raises:
        WeightsError: no tensor at all; a name that is no printable text; a tensor without data, or that is complex,
            sparse, quantised, of a dtype that no file holds; a weight that is not finite or beyond float32.
    """
    if not isinstance(weights, Mapping):
        hint = "Its state_dict is one" if hasattr(weights, "state_dict") else ""  # as programs of torch.export have
        raise WeightsError("weights", "a module, or a mapping of names to tensors", type(weights).__name__, hint)
    if not weights:
        raise WeightsError("weights", "a state dict with tensors", "an empty one")
    kept = set()
    for name, tensor in weights.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME:
            found = repr(name)[:60] if isinstance(name, str) else f"{name!r:.60}, {type(name).__name__}"
            raise WeightsError("weights", f"names of at most {MAX_NAME} printable characters", found)
        if not isinstance(tensor, Tensor):
            raise WeightsError(name, "a tensor", type(tensor).__name__, QUANTISED if PACKED in name else "")
        if (what := _odd_kind(tensor)) is not None:
            raise WeightsError(name, "a dense tensor of real numbers", what)
        if tensor.dtype not in STORABLE:
            raise WeightsError(name, f"one of {', '.join(map(_named, STORABLE))}", _named(tensor.dtype), CONVERT)
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all()):
            continue
        if name not in parameters and not name.rpartition(".")[2].startswith(LEARNED):
            kept.add(name)
            continue
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(name, "finite numbers", "NaN" if bool(torch.isnan(tensor).any()) else "infinity")
        raise WeightsError(name, "numbers that float32 can hold", f"{float(tensor.detach().abs().max()):.3g}")
    return frozenset(kept)


def _odd_kind(tensor: Tensor) -> str | None:
    """Say what a tensor is that is no plain one."""
    if is_lazy(tensor):
        return "one of a lazy module that has never run"
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__}, which keeps its numbers in other tensors"
    for odd, what in (
        (tensor.is_complex(), "complex numbers"),
        (tensor.is_nested or tensor.layout != torch.strided, f"a {tensor.layout} tensor"),
        (tensor.is_quantized, "a tensor of torch's quantised kind"),
        (tensor.is_meta, "a tensor without data"),
    ):
        if odd:
            return what
    return None


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
