"""How much each output channel of a layer, and each vector, matters: squared gradients of drawn sums of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mess.scheme.learned.calls import Call, Watch
from mess.scheme.learned.curvature import Curvature, CurvatureSums
from mess.scheme.learned.layers import WeightLayer
from mess.scheme.learned.layerwise import StageProgress, batches_at_once, device_of, no_progress, split_batches
from mess.scheme.learned.outputs import Output, tensors

DRAWS = 4  # for each input: sampling noise would else misjudge channels
LEAST = 1e-30  # of what changes nothing at all
FLOOR = 1e-3  # of the mean sensitivity: a channel that seems dead still counts for something


@dataclass(frozen=True)
class Sensitivity:
    """What a squared error of 1 changes in what the network answers, in nats twice over.

    Attributes:
        channels: by layer, (O,) float64: of an output channel at all places; of a layer whose products were not seen,
            of one weight of a row.
        vectors: by name, of each number of vectors, in the vector's shape, float64.
        curvature: by layer whose products are seen at several places.
    """

    channels: dict[str, Tensor]
    vectors: dict[str, Tensor]
    curvature: dict[str, Curvature] = field(default_factory=dict)

    def finer(self, factors: Mapping[str, float]) -> Sensitivity:
        """Return what makes steps of these tensors smaller by these factors: g times their squares, as s² is as 1/g."""
        squares = {name: factor**2 for name, factor in factors.items()}
        channels, vectors = (
            {name: g * squares.get(name, 1.0) for name, g in part.items()} for part in (self.channels, self.vectors)
        )
        curvature = {name: c.times(squares[name]) if name in squares else c for name, c in self.curvature.items()}
        return Sensitivity(channels, vectors, curvature)

    @property
    def bytes(self) -> int:
        """Bytes of the matrices, which are nearly all of it."""
        return sum(curvature.halves_2Gnn.nbytes for curvature in self.curvature.values())


def output_sensitivity(
    model: nn.Module,
    layers: list[WeightLayer],
    inputs: Tensor,
    outputs: list[Output],
    *,
    seed: int = 0,
    progress: StageProgress = no_progress,
) -> Sensitivity:
    """Return the mean over inputs of the squared gradients of Σ ξ·answer, ξ drawn so that E(ξ·error)²/2 is nats.

    That is the diagonal of the Gauss-Newton matrix in channels (Schraudolph 2002), summed over positions; it gives the
    second-order estimate of what a change of weights does to the answers. No labels are needed, and how sure a network
    is of an image does not tell: Fisher weights of a trained network come from the few images it is unsure of.
    Gradients of a batch's sum, squared, are those of its inputs summed: of channels always, as an input's error reaches
    its own answer alone; of vectors in expectation, as their ξ are independent.
    """
    channels: dict[str, Tensor] = {}
    curvature = CurvatureSums(layers, seed)
    whole = {layer.name: layer.weight for layer in layers if not layer.calls}
    matrices = {id(layer.weight) for layer in layers}
    vectors = {
        name: p for name, p in model.named_parameters() if p.is_floating_point() and id(p) not in matrices and p.numel()
    }
    known = {**whole, **vectors}
    squares = {name: torch.zeros(p.shape, dtype=torch.float64, device=p.device) for name, p in known.items()}
    was = {name: p.requires_grad for name, p in model.named_parameters()}
    for p in known.values():
        p.requires_grad_(True)

    def note(name: str, call: Call, output: Tensor) -> None:
        channel = 1 + output.dim() - call.dimensions - 2 if call.dimensions else output.dim() - 1

        def add(gradient: Tensor) -> None:
            dims = [d for d in range(gradient.dim()) if d != channel]
            square_O = gradient.detach().square().sum(dims).double()
            channels[name] = channels[name] + square_O if name in channels else square_O
            if first_draw:
                curvature.add(name, call, gradient)

        if output.requires_grad:
            output.register_hook(add)

    draw, device = torch.Generator().manual_seed(seed), device_of(model)
    names = {id(layer.weight): layer.name for layer in layers if layer.calls}
    first_draw = True

    def look(pieces: Sequence[Tensor]) -> None:
        nonlocal first_draw
        # the inputs need gradients so that frozen weights still pass them on
        batch = (pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))).detach().to(device).requires_grad_(True)
        with Watch(names, after=note):
            answer = tensors(model(batch))
        if len(pieces) > 1 and any(not x.dim() or len(x) != len(batch) for x in answer):  # not an answer an input
            for piece in pieces:
                look([piece])
            return
        told = [output.told(x) for x, output in zip(answer, outputs, strict=True)]
        drawn = _drawn(pieces, told, outputs, draw)
        for number, draws in enumerate(drawn, start=1):  # one forward pass serves all draws
            loss = torch.stack([(x * xi).sum() for x, xi in zip(told, draws, strict=True)]).sum()
            first_draw, wanted = number == 1, [batch, *known.values()]
            found = torch.autograd.grad(loss, wanted, retain_graph=number < DRAWS, allow_unused=True)
            for name, gradient in zip(known, found[1:], strict=True):
                if gradient is not None:
                    squares[name] += gradient.detach().square().double()

    batches = split_batches(inputs)
    together = batches_at_once(device, len(batches[0]))
    with torch.enable_grad():
        for place in range(0, len(batches), together):
            progress("weighing channels", place, len(batches))
            look(batches[place : place + together])
    for name, p in model.named_parameters():
        p.requires_grad_(was[name])
    count = DRAWS * len(inputs)
    for name, weight in whole.items():
        channels[name] = squares[name].reshape(len(weight), -1).mean(1)
    each = {name: _floored(square / count) for name, square in channels.items()}
    return Sensitivity(each, {name: squares[name] / count for name in vectors}, curvature.ordered())


def _drawn(
    pieces: Sequence[Tensor], answer: list[Tensor], outputs: list[Output], draw: torch.Generator
) -> Iterator[list[Tensor]]:
    """Yield each draw for all outputs, where these are; the same numbers for an input, however many go at once."""
    one = len(pieces) == 1
    made = [
        [[o.drawn(x.shape if one else (len(piece), *x.shape[1:]), draw) for x, o in zip(answer, outputs, strict=True)]
         for _ in range(DRAWS)]
        for piece in pieces
    ]  # fmt: skip
    for number in range(DRAWS):
        parts = zip(*(of_piece[number] for of_piece in made), strict=True)
        yield [torch.cat(part).to(x.device) if not one else part[0].to(x.device)
               for part, x in zip(parts, answer, strict=True)]  # fmt: skip


def _floored(square_O: Tensor) -> Tensor:
    return square_O.clamp_min(max(float(square_O.mean()) * FLOOR, LEAST))
