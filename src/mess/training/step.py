"""One step of training, operation by operation; `capture` runs the same without Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mess.training.losses import share_of_batch, summed_cross_entropy

if TYPE_CHECKING:
    from mess.training.run import Run


class Step:
    """Forward, backward, the scores, and the optimizer's step. Nothing of a plain step waits for a GPU.

    It reads what the tensors of `run` hold, and no number of Python's that changes from step to step: the learning
    rate and the step's number are tensors, where a step may be captured.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> None:
        """Do the whole step."""
        self.gradients(images_NCHW, labels_N, global_samples)
        self.run.stepper.step()

    def gradients(self, images_NCHW: Tensor, labels_N: Tensor, global_samples: int) -> None:
        """Do all of it but the optimizer's step."""
        run, hooks = self.run, self.run.hooks
        run.stepper.zero_grad()
        if hooks.inputs is not None:
            images_NCHW, labels_N = hooks.inputs(images_NCHW, labels_N)
        with run.devices.autocast():
            logits_NC = run.forward(images_NCHW)[: len(labels_N)]  # padding images: seen by BatchNorm, not in the loss
        if hooks.loss is not None:
            loss_sum = hooks.loss(logits_NC, images_NCHW[: len(labels_N)], labels_N)
        else:
            loss_sum = summed_cross_entropy(logits_NC, labels_N, run.options.label_smoothing)
        loss = share_of_batch(loss_sum, global_samples, run.devices.world_size)
        penalty = hooks.penalty(run.model) if hooks.penalty is not None else None
        run.devices.backward(loss if penalty is None else loss + penalty)
        run.tally.add(logits_NC.detach(), labels_N, loss_sum.detach())
