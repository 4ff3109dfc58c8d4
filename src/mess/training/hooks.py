"""The places where a recipe reaches into training, so that training knows nothing of storing schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess.training.options import TrainOptions


@dataclass(frozen=True)
class Hooks:
    """Optional callables. They get the network itself, never a wrapper of it.

    Attributes:
        penalty: a term added to the loss of each step, or None; the same in every process. On a GPU it and `loss` are
            captured: called once, and from then on replayed on what their tensors hold.
        after_step: called after each step, when all of it is done.
        before_epoch: (epoch, model), epochs counted from 0; not called again when a run is resumed within an epoch.
        after_epoch: (epoch, model, is_save_epoch), after the epoch's training and before its test; what it changes in
            the model stays.
        optimizer: (model, options, captured) → another than the usual one, in the form that can be captured where it
            has to; a group's "lr_scale" multiplies the schedule's learning rate.
        inputs: (images, labels) → the images and labels that a step is done with, captured as `loss` is.
        train_mode: puts the model into the mode it trains in.
        loss: (logits, images, labels) → the loss summed over the samples, in place of the cross-entropy.
        export: the network's plain state dict, as it is kept in a checkpoint.
        load: the inverse of `export`.
        extra_state: what else a resume needs: plain tensors, numbers, strings, lists and dicts of them.
        load_extra_state: takes up what `extra_state` gave.
        validated: context manager in which the model has the form it is tested in (and its weights their average,
            where there is one).
        bits: (model) → bits a weight, where there is a price on them; told after each epoch.
        bit_price: nats that one of these costs. The best epoch is then that of the least test loss and price together:
            the most accurate one may be the first, before bytes have begun to fall.
        facts: kept in each checkpoint beside the weights: what the network's input has to look like.
        saved: (path, model), in the main process, after `ckpt_epoch_N.pth` or `ckpt_best.pth` was written; the model
            has its averaged weights then, but not the form of `validated`.
    """

    penalty: Callable[[nn.Module], Tensor | None] | None = None
    after_step: Callable[[nn.Module], None] | None = None
    before_epoch: Callable[[int, nn.Module], None] | None = None
    after_epoch: Callable[[int, nn.Module, bool], None] | None = None
    optimizer: Callable[[nn.Module, TrainOptions, bool], torch.optim.Optimizer] | None = None
    inputs: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    train_mode: Callable[[nn.Module], object] = nn.Module.train
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    export: Callable[[nn.Module], dict[str, Tensor]] = nn.Module.state_dict
    load: Callable[[nn.Module, dict[str, Tensor]], object] = nn.Module.load_state_dict
    bits: Callable[[nn.Module], float] | None = None
    bit_price: float = 0.0
    extra_state: Callable[[], dict[str, Any]] = dict
    load_extra_state: Callable[[dict[str, Any]], None] | None = None
    validated: Callable[[nn.Module], AbstractContextManager[object]] = nullcontext
    facts: Mapping[str, Any] = field(default_factory=dict)
    saved: Callable[[Path, nn.Module], None] | None = None
