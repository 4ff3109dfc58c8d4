"""How much each output channel matters: squared gradients of the network's own sampled predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mess.scheme.learned.layers import WeightLayer

BATCH = 128
DRAWS = 4  # of labels for each input: sampling noise would else misjudge channels
FLOOR = 1e-3  # of the mean sensitivity: a channel that seems dead still counts for something


def output_sensitivity(
    model: nn.Module, layers: list[WeightLayer], inputs: Tensor, *, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return for each layer that runs its sensitivity, (O,) float64, and how often it runs in a forward pass.

    The mean over inputs of the squared gradient at each output channel, summed over positions: the diagonal of the
    Fisher information in channels, for labels drawn from the model's own predictions, so that none are needed. It gives
    the second-order estimate of the Kullback-Leibler divergence that a change of weights causes. Outputs that are no
    class scores are weighted with random signs, which gives squared error instead.
    """
    squares: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    draw = torch.Generator().manual_seed(seed)
    handles = [layer.module.register_forward_hook(partial(_note, layer.name, squares, calls)) for layer in layers]
    batches = inputs.split(BATCH) * DRAWS
    try:
        with torch.enable_grad():
            for batch in batches:
                # the inputs need gradients so that frozen weights still pass them on
                batch = batch.detach().requires_grad_(True)
                torch.autograd.grad(_loss(model(batch), draw), batch)
    finally:
        for handle in handles:
            handle.remove()
    each = {name: _floored(square / (DRAWS * len(inputs))) for name, square in squares.items()}
    return each, {name: count // len(batches) for name, count in calls.items()}


def _floored(square_O: Tensor) -> Tensor:
    return square_O.clamp_min(max(float(square_O.mean()) * FLOOR, 1e-30))


def _note(
    name: str, squares: dict[str, Tensor], calls: dict[str, int], module: nn.Module, _: object, output: Tensor
) -> None:
    calls[name] = calls.get(name, 0) + 1
    channel = 1 if isinstance(module, nn.Conv2d) else output.dim() - 1

    def add(gradient: Tensor) -> None:
        dims = [d for d in range(gradient.dim()) if d != channel]
        squares[name] = squares.get(name, torch.zeros(())) + gradient.detach().double().square().sum(dims)

    hook: Callable[[Tensor], None] = add
    if output.requires_grad:
        output.register_hook(hook)


def _loss(output: Tensor, draw: torch.Generator) -> Tensor:
    if output.dim() == 2 and output.shape[1] > 1:
        labels = torch.multinomial(output.detach().float().softmax(1).cpu(), 1, generator=draw)[:, 0]
        return F.cross_entropy(output, labels.to(output.device), reduction="sum")
    signs = torch.randint(0, 2, output.shape, generator=draw).to(output) * 2 - 1
    return (output * signs).sum()
