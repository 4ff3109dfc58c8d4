"""How the scheme takes part in training: hooks for each of the specification's ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mess.errors import CheckpointError, OptionError
from mess.models import Architecture
from mess.recipes.job import Job, SchemeTraining
from mess.scheme import (
    Decoded,
    attach_rounding,
    nuclear_penalty,
    pearson_penalty,
    plain_state_dict,
    plan,
    project_,
)
from mess.storing import StoreOptions, compress_with
from mess.training import Hooks


def scheme_hooks(
    model: nn.Module, job: Job, *, rounds: int, input_facts: Mapping[str, Any], written: list[Path]
) -> Hooks:
    """Return what `fit` needs to train as `job.scheme` says; `model` may be changed by it.

    Args:
        rounds: of retraining, this one included; kept in the `.mess` files.
        input_facts: mean and std, where they are not the dataset's own.
        written: gets the `.mess` files that are written.
    """
    training = job.scheme
    if training.rounding_bits:
        return _rounding_hooks(model, training, rounds, input_facts, written)
    if training.store is None:
        return Hooks()
    if training.project:
        return _projecting_hooks(model, training, rounds, input_facts, written)
    if job.options.ema:
        raise OptionError("--ema", "0 when training through the decoder", job.options.ema, "--project goes with it")
    return _decoded_hooks(model, training, job.options.save_epoch, rounds, input_facts, written)


def _decoded_hooks(
    model: nn.Module, training: SchemeTraining, every: int, rounds: int, facts: Mapping[str, Any], written: list[Path]
) -> Hooks:
    """Train through the decoder; k is chosen again every so many epochs (`-s`)."""
    store = _store(training)
    decoded = Decoded(model, store.scheme(), pointwise=store.pointwise, linear=store.linear)

    def rematch(epoch: int, _model: nn.Module) -> None:
        if epoch and epoch % every == 0 and not training.fixed_index:
            decoded.rematch()

    def penalty(_model: nn.Module) -> Tensor | None:
        return _penalty(decoded.references(), training)

    return Hooks(
        before_epoch=rematch,
        penalty=penalty if training.nuclear or training.pearson else None,
        export=lambda _model: decoded.plain_state_dict(),
        load=lambda _model, state: decoded.load_plain(state),
        extra_state=decoded.state_dict,
        load_extra_state=decoded.load_state_dict,
        saved=_writer(training, rounds, facts, written, projected=True),
    )


def _projecting_hooks(
    model: nn.Module, training: SchemeTraining, rounds: int, facts: Mapping[str, Any], written: list[Path]
) -> Hooks:
    """Train plainly; every so many epochs kernels are replaced, and always tested, in their references' form."""
    store = _store(training)
    scheme, cut = store.scheme(), {"pointwise": store.pointwise, "linear": store.linear}
    sources = [group.source for group in plan(model, scheme, **cut).groups]  # type: ignore[arg-type]

    def penalty(network: nn.Module) -> Tensor | None:
        return _penalty([s.reference_units(network.get_parameter(s.name)) for s in sources], training)

    def replace_kernels(_epoch: int, network: nn.Module, is_save_epoch: bool) -> None:
        if is_save_epoch:
            project_(network, scheme, **cut)  # type: ignore[arg-type]

    @contextmanager
    def stored_form(network: nn.Module) -> Iterator[None]:
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        project_(network, scheme, **cut)  # type: ignore[arg-type]
        try:
            yield
        finally:
            network.load_state_dict(kept)

    return Hooks(
        after_epoch=replace_kernels,
        validated=stored_form,
        penalty=penalty if training.nuclear or training.pearson else None,
        saved=_writer(training, rounds, facts, written),
    )


def _rounding_hooks(
    model: nn.Module, training: SchemeTraining, rounds: int, facts: Mapping[str, Any], written: list[Path]
) -> Hooks:
    """Train with kernels rounded in the forward pass; the latent ones are what a resume needs."""
    attach_rounding(model, training.rounding_bits)

    def latent() -> dict[str, Any]:
        return {"rounds": rounds, "latent": {n: t for n, t in model.state_dict().items() if n.endswith("original")}}

    def take(state: Mapping[str, Any]) -> None:
        if "latent" not in state:
            raise CheckpointError("checkpoint", "a run with -Q", "another one")
        model.load_state_dict(state["latent"], strict=False)

    def load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
        network.load_state_dict({n: t for n, t in state.items() if n in network.state_dict()}, strict=False)

    return Hooks(
        export=plain_state_dict,
        load=load,
        extra_state=latent,
        load_extra_state=take,
        saved=_writer(training, rounds, facts, written) if training.store is not None else None,
    )


def _writer(
    training: SchemeTraining, rounds: int, facts: Mapping[str, Any], written: list[Path], *, projected: bool = False
) -> Any:
    """Return the hook that writes the `.mess` file beside each checkpoint that is kept."""
    store = _store(training)

    def write(path: Path, model: nn.Module) -> None:
        suffix = f"_{store.tag}_r{rounds}" if rounds else f"_{store.tag}"
        target = path.with_name(f"{path.stem}{suffix}.mess")
        about = {**facts, **({"rounds": rounds} if rounds else {})}
        with torch.no_grad():
            weights = {name: tensor.detach().cpu() for name, tensor in plain_state_dict(model).items()}
        architecture: Architecture = model.architecture  # type: ignore[assignment]
        compress_with(weights, target, store, architecture=architecture, about=about, projected=projected)
        if target not in written:
            written.append(target)

    return write


def _penalty(references: list[Tensor], training: SchemeTraining) -> Tensor | None:
    terms = [nuclear_penalty(refs, training.nuclear) for refs in references if training.nuclear]
    terms += [pearson_penalty(refs, training.pearson) for refs in references if training.pearson]
    return torch.stack(terms).sum() if terms else None


def _store(training: SchemeTraining) -> StoreOptions:
    if training.store is None:
        raise OptionError("--version", "a version of the scheme", "none")
    return training.store
