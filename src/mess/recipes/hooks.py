"""How a scheme takes part in training: hooks over the one interface that all ways of training through it have.

What is tested, and told, is the stored form: the very weights that the `.mess` file of that moment decodes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess import codec, models
from mess.errors import OptionError
from mess.models import Architecture
from mess.names import TRAINED_REST_BITS
from mess.recipes.job import Job
from mess.recipes.teacher import Teacher, mixed
from mess.scheme import (
    Parametrized,
    ReferenceTraining,
    RoundedTraining,
    plain_state_dict,
    plan,
    project_,
    reference_penalty,
)
from mess.scheme.learned import Learned, RateTraining
from mess.storing import Request, StoreOptions, coded, complete, identify, to_stored, to_tensors
from mess.training import Hooks, TrainOptions

PROJECTED = "projected"  # in a checkpoint


@dataclass
class Stored:
    """Makes the stored form of the network that trains, for tests and for files.

    Attributes:
        trained: what the network trains through; None where it is plain.
        about: facts for the files.
        written: the files so far.
        projected: of a network that trains plainly, whether its kernels are α·R + β, put in their place since the last
            step.
    """

    options: StoreOptions
    architecture: Architecture
    trained: Parametrized | None
    about: Mapping[str, Any]
    written: list[Path] = field(default_factory=list)
    projected: bool = field(default=False, init=False)
    _tested: codec.StoredModel | None = field(default=None, init=False)  # what was tested last, until training goes on

    @torch.no_grad()
    def form(self, model: nn.Module) -> codec.StoredModel:
        """Return what a file of this moment says."""
        if isinstance(self.trained, RateTraining):
            learned = self.trained.current(models.build(self.architecture, initialised=False))
            network = identify(learned.model, self.architecture)
            return complete(network, coded(learned, network), self.options.rest or TRAINED_REST_BITS, self.about)
        own = plain_state_dict(model)
        device = next(iter(own.values())).device  # that matches are found on
        weights = {name: tensor.detach().cpu() for name, tensor in own.items()}
        projected = frozenset(weights) if self.projected or self.trained is not None else frozenset()
        request = Request(
            self.options, architecture=self.architecture, about=self.about, projected=projected, device=device
        )
        return to_stored(identify(weights, self.architecture), request)

    @contextmanager
    def tested(self, model: nn.Module) -> Iterator[None]:
        """Give the model the weights that a file of this moment decodes to, for the length of a ``with`` block."""
        shown = self.trained or Parametrized(model)
        self._tested = self.form(model)
        with shown.showing(to_tensors(self._tested)):
            yield

    def trained_on(self) -> None:
        """Hear that the network is no longer the one that was tested."""
        self._tested, self.projected = None, False

    def write(self, path: Path, model: nn.Module) -> None:
        """Write the `.mess` file beside a checkpoint that is kept."""
        target = stored_beside(path, self.options, self.about.get("rounds", 0))
        codec.write_model(target, self._tested or self.form(model), layout=self.options.layout)
        if target not in self.written:
            self.written.append(target)


def stored_beside(checkpoint: Path, options: StoreOptions, rounds: int) -> Path:
    """Return the `.mess` file of a checkpoint's network; `rounds` are those of retraining."""
    return checkpoint.with_name(f"{checkpoint.stem}_{options.tag}{f'_r{rounds}' if rounds else ''}.mess")


def scheme_hooks(
    model: nn.Module,
    job: Job,
    *,
    rounds: int,
    input_facts: Mapping[str, Any],
    written: list[Path],
    start: Learned | None = None,
    teacher: Teacher | None = None,
) -> Hooks:
    """Return what `fit` needs to train as `job.scheme` says; `model` may be changed by it.

    Args:
        rounds: of retraining, this one included; kept in the `.mess` files.
        input_facts: for the files: mean, std and sizes, where they are not the dataset's own, and classes.
        written: gets the `.mess` files that are written.
        start: of version 4: integers and references to start from.
        teacher: whose predictions are learned in place of labels.
    """
    choice = job.scheme
    trained = _trained(model, job, start)
    about = {**input_facts, **({"rounds": rounds} if rounds else {})}
    stored = Stored(choice.store, job.architecture, trained, about, written) if choice.store is not None else None
    if trained is None:
        return _plain_hooks(model, job, stored)

    def optimizer(network: nn.Module, options: TrainOptions, captured: bool) -> torch.optim.Optimizer:
        parameters = trained.parameter_groups() or network.parameters()
        return torch.optim.Adam(
            parameters, lr=options.lr, betas=(0.9, 0.99), fused=captured or None, capturable=captured
        )

    def after_step(_model: nn.Module) -> None:
        trained.after_step()
        if stored is not None:
            stored.trained_on()

    taught = {} if teacher is None else teacher.state()
    hooks = Hooks(
        # followed is what the network computes in use, with the statistics of plain images
        inputs=None if teacher is None else mixed,
        train_mode=nn.Module.train if teacher is None else nn.Module.eval,
        optimizer=optimizer if trained.parameter_groups() is not None else None,
        loss=teacher.loss(job.options.precision) if teacher is not None else None,
        penalty=lambda _model: trained.penalty(),
        bits=(lambda _model: float(trained.bits_per_weight().detach())) if isinstance(trained, RateTraining) else None,
        bit_price=trained.rate_weight if isinstance(trained, RateTraining) else 0.0,
        before_epoch=lambda epoch, _model: trained.before_epoch(epoch),
        after_step=after_step,
        export=lambda _model: trained.plain_state_dict(),
        load=lambda _model, state: trained.load_plain(state),
        extra_state=lambda: {**trained.state_dict(), **taught},
        load_extra_state=trained.load_state_dict,
    )
    return hooks if stored is None else replace(hooks, validated=stored.tested, saved=stored.write)


def _trained(model: nn.Module, job: Job, start: Learned | None) -> Parametrized | None:
    """Let the network run through what is stored; None where it trains plainly."""
    choice = job.scheme
    if choice.rounding_bits:
        return RoundedTraining(model, choice.rounding_bits)
    if choice.rate is not None and start is not None:
        return RateTraining(model, start, choice.rate.weight)
    if choice.store is None or choice.project:
        return None
    if job.options.ema:
        raise OptionError("--ema", "0 when training through the decoder", job.options.ema, "--project goes with it")
    store = choice.store
    return ReferenceTraining(
        model,
        store.scheme(),
        pointwise=store.pointwise,
        linear=store.linear,
        rematch_every=None if choice.fixed_index else job.options.save_epoch,
        nuclear=choice.nuclear,
        pearson=choice.pearson,
    )


def _plain_hooks(model: nn.Module, job: Job, stored: Stored | None) -> Hooks:
    """Train plainly; with a scheme, every so many epochs kernels are replaced by their references' form."""
    if stored is None:
        return Hooks()
    choice, store = job.scheme, stored.options
    scheme, cut = store.scheme(), {"pointwise": store.pointwise, "linear": store.linear}
    sources = [group.source for group in plan(model, scheme, **cut).groups]  # type: ignore[arg-type]

    def penalty(network: nn.Module) -> Tensor | None:
        references = [s.reference_units(network.get_parameter(s.name)) for s in sources]
        return reference_penalty(references, choice.nuclear, choice.pearson)

    def replace_kernels(_epoch: int, network: nn.Module, is_save_epoch: bool) -> None:
        if is_save_epoch:
            project_(network, scheme, **cut)  # type: ignore[arg-type]
            stored.projected = not job.options.ema  # what is stored is then an average of these and of others

    def take_up(state: Mapping[str, Any]) -> None:
        stored.projected = state.get(PROJECTED, False)  # earlier versions did not say

    return Hooks(
        penalty=penalty,
        after_step=lambda _model: stored.trained_on(),
        after_epoch=replace_kernels,
        extra_state=lambda: {PROJECTED: stored.projected},
        load_extra_state=take_up,
        validated=stored.tested,
        saved=stored.write,
    )
