"""The loss, written so that it is right however a batch is split over processes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def summed_cross_entropy(logits_NC: Tensor, labels_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy (nats) summed over the samples, in float32 whatever the precision of the logits."""
    return F.cross_entropy(logits_NC.float(), labels_N, reduction="sum", label_smoothing=label_smoothing)


def share_of_batch(loss_sum: Tensor, global_samples: int, world_size: int) -> Tensor:
    """Return what a process calls backward on, so that the *average* over processes is the batch's mean loss.

    DDP averages gradients over processes. A plain local mean would weigh a sample by the size of its process's part;
    local sum / global size · world size weighs every sample alike, also where parts are uneven.
    """
    return loss_sum * (world_size / global_samples)
