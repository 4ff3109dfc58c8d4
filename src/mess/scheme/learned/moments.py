"""What a layer sees: second moments of its inputs, in the network as stored so far and beside the float one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mess.scheme.learned.layers import WeightLayer, patches

BATCH = 128
FEWEST_INPUTS = 256  # however many patches each of them gives
PATCHES_A_NUMBER = 128  # patches for each number of a row are enough; all inputs where they do not give so many
DAMPING = 1e-2  # of the mean diagonal: how far a target may leave the float weights for the sake of few inputs


class _Seen(Exception):  # noqa: N818 - no error: it ends a forward pass that has shown what was asked for
    """The layer has run as often as it does."""


def input_moments(
    stored: nn.Module, original: nn.Module, layer: WeightLayer, twin: WeightLayer, inputs: Tensor, calls: int
) -> tuple[Tensor, Tensor]:
    """Return (H, C), both (G, n, n) float64: means of x xᵀ and of x yᵀ.

    Args:
        stored: the network whose layers before this one are rounded; x are the patches `layer` sees there.
        original: the float network; y are the patches that `twin`, the same layer, sees there.
        calls: how often the layer runs in a forward pass.
    """
    moment = cross = torch.zeros((), dtype=torch.float64)
    count = 0
    with torch.inference_mode():
        for place, batch in enumerate(inputs.split(BATCH)):
            if place * BATCH >= FEWEST_INPUTS and count >= PATCHES_A_NUMBER * moment.shape[-1]:
                break
            for x, y in zip(_seen(stored, layer, batch, calls), _seen(original, twin, batch, calls), strict=True):
                for x_GNn, y_GNn in zip(patches(layer, x), patches(twin, y), strict=True):
                    moment = moment + (x_GNn.mT @ x_GNn).double()
                    cross = cross + (x_GNn.mT @ y_GNn).double()
                    count += x_GNn.shape[1]
    return moment.clone() / count, cross.clone() / count


def asymmetric_target(weight_GRn: Tensor, moment_Gnn: Tensor, cross_Gnn: Tensor) -> Tensor:
    """Return the weights that make up best for what rounding did to the inputs: argmin_V E‖V·x − W·y‖² (+ damping).

    V = W·(C + δI)ᵀ(H + δI)⁻¹, so V = W where the inputs have not changed.
    """
    damp = DAMPING * moment_Gnn.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12) * torch.eye(moment_Gnn.shape[-1])
    right = (cross_Gnn + damp) @ weight_GRn.mT
    return torch.linalg.solve(moment_Gnn + damp, right).mT


def _seen(model: nn.Module, layer: WeightLayer, batch: Tensor, calls: int) -> list[Tensor]:
    found: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0])
        if len(found) == calls:
            raise _Seen

    handle = layer.module.register_forward_pre_hook(note)
    try:
        model(batch)
    except _Seen:
        pass
    finally:
        handle.remove()
    return found
