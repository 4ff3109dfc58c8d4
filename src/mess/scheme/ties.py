"""Which tensors of a state dict are one and the same, and which of them no file can hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mess.errors import WeightsError


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


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Refuse what no file of ours can hold, by name.

    Raises:
        WeightsError: no tensor at all, or one that is complex, sparse, quantised, on no device, or not finite.
    """
    if not weights:
        raise WeightsError("weights", "a state dict with tensors", "an empty one")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor):
            raise WeightsError(name, "a tensor", type(tensor).__name__)
        for wrong, what in (
            (tensor.is_complex(), "complex numbers"),
            (tensor.layout != torch.strided, f"a {tensor.layout} tensor"),
            (tensor.is_quantized, "a tensor of torch's quantised kind"),
            (tensor.is_meta, "a tensor without data"),
        ):
            if wrong:
                raise WeightsError(name, "a dense tensor of real numbers", what)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(name, "finite numbers", "NaN" if bool(torch.isnan(tensor).any()) else "infinity")
