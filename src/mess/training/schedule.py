"""Learning rates: pure functions of the position in the run, so that resuming at any step needs no replay."""

from __future__ import annotations

import math

from mess.training.options import TrainOptions

STEP_AT, STEP_FACTOR = (0.5, 0.75), 0.1  # where He et al. 2015 (arXiv:1512.03385, section 4.2) divide by 10 on CIFAR
CYCLE_UP, CYCLE_START, CYCLE_END = 0.3, 1 / 25, 1 / 25e4  # torch's OneCycleLR defaults, as shares of the run and of lr


def lr_at(options: TrainOptions, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one optimizer step.

    Args:
        options: epochs, lr, schedule and warm-up of the run.
        step: steps done before this one, over the whole run.
        steps_per_epoch: steps of one epoch.
    """
    epoch = step / max(1, steps_per_epoch)
    if epoch < options.warmup_epochs:  # the first step already moves: (step + 1) of the steps of the warm-up
        return options.lr * min(1.0, (step + 1) / (options.warmup_epochs * steps_per_epoch))
    done = (epoch - options.warmup_epochs) / (options.epochs - options.warmup_epochs)
    return options.lr * SHAPES[options.schedule](min(1.0, done))


def cosine(done: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter, arXiv:1608.03983, eq. 5); `done` runs from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * done))


def stepwise(done: float) -> float:
    """1, then a tenth from half of the run on, then a hundredth from three quarters on."""
    return STEP_FACTOR ** sum(done >= at for at in STEP_AT)


def onecycle(done: float) -> float:
    """Up in a half cosine, then down to nearly nothing (Smith & Topin, arXiv:1708.07120)."""
    if done < CYCLE_UP:
        return _between(CYCLE_START, 1.0, done / CYCLE_UP)
    return _between(1.0, CYCLE_END, (done - CYCLE_UP) / (1 - CYCLE_UP))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * cosine(share)


SHAPES = {"cosine": cosine, "step": stepwise, "onecycle": onecycle}
