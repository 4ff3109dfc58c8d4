"""Scores of a test: every sample counts once, whoever has it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mess.devices import Devices
from mess.training import evaluate
from training_fakes import FakeBatches, tiny


class Fixed(nn.Module):
    """Scores that put class 0 first, class 1 second and so on, for any image."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return -torch.arange(7.0).expand(len(images_NCHW), 7)


def test_scores_count_every_sample_once() -> None:
    batches = FakeBatches(samples=21, batch=8, train=False)
    batches.labels_N = torch.arange(21) % 7
    scores = evaluate(Fixed().train(), batches, Devices())
    assert (scores.top1, scores.samples) == (pytest.approx(100 / 7), 21)
    assert scores.top5 == pytest.approx(500 / 7)
    logits = -torch.arange(7.0).expand(21, 7)
    assert scores.loss == pytest.approx(float(nn.functional.cross_entropy(logits, batches.labels_N)))


def test_a_process_without_a_part_of_the_last_batch_scores_nothing_there() -> None:
    batches = FakeBatches(samples=9, batch=8, train=False, rank=0, world=2)  # the ninth sample is the other's
    model = tiny()
    assert evaluate(model, batches, Devices()).samples == 4
    assert model.training
