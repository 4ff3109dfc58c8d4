"""Training and testing: images and a network in, trained weights and checkpoints out.

Read `loop.py` first. Beside it: `options` (how to train), `run` (the pieces of a run and its checkpoint), `hooks`
(where a recipe reaches in), `evaluation` (scores), `checkpoint` (files), `log` (reports and CSV),
`tensorboard` (curves), and one small file each for schedule, optimizer, losses, weight average, signals and BatchNorm.
Nothing here knows a storing scheme.
"""

from __future__ import annotations

from mess.training.batchnorm import refresh_statistics
from mess.training.evaluation import BatchSource, Scores, evaluate
from mess.training.hooks import Hooks
from mess.training.log import CsvLog, EpochReport, Reporter, StepReport
from mess.training.loop import FitResult, fit
from mess.training.losses import summed_cross_entropy
from mess.training.options import TrainOptions
from mess.training.run import DivergedError

__all__ = [
    "BatchSource",
    "CsvLog",
    "DivergedError",
    "EpochReport",
    "FitResult",
    "Hooks",
    "Reporter",
    "Scores",
    "StepReport",
    "TrainOptions",
    "evaluate",
    "fit",
    "refresh_statistics",
    "summed_cross_entropy",
]
