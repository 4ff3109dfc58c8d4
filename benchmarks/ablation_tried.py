"""What was tried beside version 4's method and is not in it: `ablation.py` measures files with it, too.

Each takes the place of a function that rounding calls, calls it, and goes on from what it gives.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablation_ingredients import Swap, learn
from mess.recipes.teacher import mixed
from mess.scheme.learned import Learned, RateTraining
from mess.storing import learned as storing

STEPS, BATCH_NUMBERS = 300, 64 * 3 * 32 * 32  # of Adam; input numbers of a step: 64 pictures of CIFAR
RATE = 1e-3  # of what a vector's numbers come to on average; of the logarithm of a step
Learn = Callable[..., Learned]


@dataclass(frozen=True)
class Tried:
    """Something that is done beside the method.

    Attributes:
        does: what it is.
        source: where it is from.
        swaps: as those of an `Ingredient`.
    """

    does: str
    source: str
    swaps: tuple[Swap, ...]


def _settled(learned: Learn) -> Learn:
    """Train vectors and steps to the float network's answers, while integers stay."""

    def made(module: nn.Module, inputs: Tensor, *args: Any, **options: Any) -> Learned:
        found = learned(module, inputs, *args, **options)
        with torch.inference_mode(mode=False), torch.enable_grad():
            return settle(found, module, inputs)

    return made


def settle(found: Learned, module: nn.Module, inputs: Tensor) -> Learned:
    """Return what 300 steps make of a learned network's vectors and steps, on mixtures of two inputs each."""
    generator, inputs = torch.Generator().manual_seed(0), inputs.clone()
    teacher = copy.deepcopy(module).float().eval().requires_grad_(False)
    model = copy.deepcopy(found.model).eval().requires_grad_(True)
    training = RateTraining(model, found)
    for latent_OCT in training.latents().values():
        latent_OCT.requires_grad_(False)
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rates = [RATE * (1.0 if p.dim() == 0 else float(p.detach().square().mean().sqrt())) for p in moved]
    optimizer = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(moved, rates, strict=True)])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2)
    batch = max(8, BATCH_NUMBERS // inputs[0].numel())
    for _ in range(STEPS):
        drawn = inputs[torch.randint(len(inputs), (batch,), generator=generator)]
        seen, _ = mixed(drawn, torch.zeros(batch))
        with torch.no_grad():
            wanted_NC = teacher(seen).log_softmax(1)
        loss = F.kl_div(model(seen).log_softmax(1), wanted_NC, log_target=True, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return replace(training.current(copy.deepcopy(found.model)), vector_bits=found.vector_bits)


def _means_kept(learned: Learn) -> Learn:
    """Give each BatchNorm layer the shift with which its channels have the float network's means, one after another."""

    def made(module: nn.Module, inputs: Tensor, *args: Any, **options: Any) -> Learned:
        found = learned(module, inputs, *args, **options)
        with torch.inference_mode(mode=False), torch.no_grad():
            own, stored = copy.deepcopy(module).float().eval(), copy.deepcopy(found.model).eval()
            for name, norm in stored.named_modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.bias += channel_means(own, name, inputs) - channel_means(stored, name, inputs)
        return replace(found, model=stored)

    return made


def channel_means(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """Return the means of a layer's channels, (C,)."""
    sums: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_hook(lambda _m, _i, out: sums.append(out.mean((2, 3)).sum(0)))
    for batch in inputs.split(64):
        model(batch)
    hook.remove()
    return torch.stack(sums).sum(0) / len(inputs)


def _fitted_step(rounded: Callable[..., Any]) -> Callable[..., Any]:
    """Multiply a layer's step with the factor at which its integers are nearest to what they were rounded from."""

    def made(problems: Any, step: float) -> Any:
        integers, wanted, step, levels = rounded(problems, step)
        start, above, below = 0, 0.0, 0.0
        for problem in problems:
            end = start + problem.target_GRn.shape[2]
            # H = U⁻¹·U⁻ᵀ, so with these coordinates errors are squared and added up
            target, chosen = (
                torch.linalg.solve_triangular(problem.upper_Gnn, numbers, upper=True, left=False)
                for numbers in (problem.target_GRn, integers[..., start:end].double() * step)
            )
            above += float((problem.sensitivity_GR[..., None] * target * chosen).sum())
            below += float((problem.sensitivity_GR[..., None] * chosen * chosen).sum())
            start = end
        return integers, wanted, step * (above / below if below else 1.0), levels

    return made


TRIED = {
    "trained vectors": Tried(
        "BatchNorm, biases and steps are trained for 300 steps to the float network's answers, on mixtures of the"
        " pictures that it was rounded with; integers stay",
        "distillation (Hinton et al. 2015, arXiv 1503.02531)",
        ((storing, "learn", _settled),),
    ),
    "means kept": Tried(
        "after rounding each BatchNorm's shift makes up for what its channels' means have changed by",
        "bias correction (Nagel et al. 2019, arXiv 1906.04721)",
        ((storing, "learn", _means_kept),),
    ),
    "fitted step": Tried(
        "a layer's step is multiplied, after rounding, with the factor that loses least",
        "LMMSE rescaling; WaterSIC (arXiv 2603.04956)",
        ((learn, "rounded_in_trellises", _fitted_step),),
    ),
}
