"""How much each output channel matters: squared gradients of the network's own sampled predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mess.scheme.learned.layers import WeightLayer
from mess.scheme.learned.layerwise import StageProgress, no_progress, split_batches

DRAWS = 4  # of labels for each input: sampling noise would else misjudge channels
FLOOR = 1e-3  # of the mean sensitivity: a channel that seems dead still counts for something


def output_sensitivity(
    model: nn.Module, layers: list[WeightLayer], inputs: Tensor, *, seed: int = 0, progress: StageProgress = no_progress
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return for each layer that runs its sensitivity, (O,) float64, and how often it runs in a forward pass.

    The mean over inputs of the squared gradient at each output channel, summed over positions: the diagonal of the
    Fisher information in channels, for labels drawn from the model's own predictions, so that none are needed. It gives
    the second-order estimate of the Kullback-Leibler divergence that a change of weights causes. Outputs that are no
    class scores are weighted with random signs, which gives squared error instead.
    """
    squares: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    handles = [layer.module.register_forward_hook(partial(_note, layer.name, squares, calls)) for layer in layers]
    batches = split_batches(inputs)
    draws: list[torch.Generator] = []
    try:
        with torch.enable_grad():
            for place, batch in enumerate(batches):
                progress("weighing channels", place, len(batches))
                # the inputs need gradients so that frozen weights still pass them on
                batch = batch.detach().requires_grad_(True)
                output = model(batch)
                draws = draws or _generators(output, batches, seed)
                for number, draw in enumerate(draws, start=1):  # one forward pass serves all draws
                    loss = _loss(output, draw)
                    torch.autograd.grad(loss, batch, retain_graph=number < DRAWS)
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
        squares[name] = squares.get(name, torch.zeros(())) + gradient.detach().square().sum(dims).double()

    hook: Callable[[Tensor], None] = add
    if output.requires_grad:
        output.register_hook(hook)


def _loss(output: Tensor, draw: torch.Generator) -> Tensor:
    """Return minus the logarithm of what was drawn, summed; or the output weighted with signs."""
    noise = _noise(output, draw).to(output.device)
    if _scores(output):
        # of exponential waiting times with the probabilities as rates the shortest is a draw from them
        labels = (output.detach().float().softmax(1) / noise).argmax(1, keepdim=True)
        return -output.log_softmax(1).gather(1, labels).sum()
    return (output * noise).sum()


def _scores(output: Tensor) -> bool:
    return output.dim() == 2 and output.shape[1] > 1


def _noise(output: Tensor, draw: torch.Generator) -> Tensor:
    if _scores(output):
        return torch.empty(output.shape).exponential_(generator=draw)
    return torch.randint(0, 2, output.shape, generator=draw) * 2.0 - 1


def _generators(output: Tensor, batches: list[Tensor], seed: int) -> list[torch.Generator]:
    """Return one generator a draw: the stretches of one stream that all draws take, one after the other."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(DRAWS):
        made.append(draw.clone_state())
        for batch in batches:
            _noise(output[:1].expand(len(batch), *output.shape[1:]), draw)
    return made
