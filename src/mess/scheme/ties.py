"""Which tensors of a network are one and the same memory, seen alike: those are stored once."""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import Tensor


def tie_groups(weights: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of each tensor that stands under several, in the order of `weights`.

    Two names are tied where device, storage, place in it, shape, strides and dtype are all the same: a weight and its
    transpose, or two windows of one buffer, are not. Tensors without numbers are never tied.
    """
    found: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in weights.items():
        if tensor.numel():
            found.setdefault(_identity(tensor), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def find_ties(weights: Mapping[str, Tensor], owners: Container[str] = ()) -> dict[str, str]:
    """Return name → the name under which the same tensor is stored.

    Args:
        owners: names that are stored in any case, and for the others too; without one the first name is.
    """
    ties: dict[str, str] = {}
    for names in tie_groups(weights):
        owner = next((name for name in names if name in owners), names[0])
        ties.update((name, owner) for name in names if name != owner and name not in owners)
    return ties


def _identity(tensor: Tensor) -> tuple[object, ...]:
    return (
        tensor.device,
        tensor.untyped_storage().data_ptr(),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
    )
