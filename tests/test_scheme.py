"""The scheme against its definition in plain loops, its symmetries, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brute_force import best
from mess import create_model
from mess.errors import OptionError, WeightsError
from mess.models import ARCHITECTURES
from mess.recipes import DataChoice, Job, SchemeChoice
from mess.recipes.hooks import scheme_hooks
from mess.scheme import (
    REFERENCE_VERSIONS,
    Geometry,
    Matches,
    ReferenceTraining,
    file_tag,
    get_scheme,
    match,
    match_tensor,
    nuclear_penalty,
    pearson_penalty,
    plan,
    project_,
    rebuild,
    rebuild_tensor,
    round_to_bits,
)
from mess.scheme.matched.penalties import nuclear_norm
from mess.storing import Request, StoreOptions, load, store
from mess.training import Hooks, TrainOptions


def kernels(kind: str, count: int, size: int = 9, seed: int = 0) -> torch.Tensor:
    random = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    if kind == "constant":
        random[::3] = 0.25
    if kind == "zero":
        random[::2] = -0.0
    if kind == "duplicated":
        random[count // 2 :] = random[: count - count // 2]
    return random * {"tiny": 1e-30, "huge": 1e30}.get(kind, 1.0)


KINDS = ["random", "constant", "zero", "duplicated", "tiny", "huge"]


@pytest.mark.parametrize("fit", ["copy", "affine"])
@pytest.mark.parametrize("refs_kind", KINDS)
@pytest.mark.parametrize("units_kind", KINDS)
def test_matching_is_the_definition(units_kind: str, refs_kind: str, fit: str) -> None:
    units, refs = kernels(units_kind, 40, seed=1), kernels(refs_kind, 20, seed=2)
    found = match(units, refs, fit)
    for n, unit in enumerate(units.numpy()):
        index, fits = best(unit, refs.numpy(), fit)
        chosen = int(found.index_N[n])
        distance, least = fits[chosen][2], fits[index][2]
        scale = float(np.abs(unit).sum()) if fit == "affine" else max(float(np.abs(unit).sum()), least)
        assert distance - least <= 2e-6 * scale  # the same but where float32 cannot tell
        if distance == least:
            assert chosen == index  # the first of equals
        if found.scale_N is not None and found.offset_N is not None:
            alpha = fits[chosen][0]
            # the offset that is best for the scale as float32 has it
            beta = float(unit.astype(np.float64).mean()) - float(found.scale_N[n]) * refs[chosen].double().mean().item()
            if abs(alpha) < 3e38:
                assert float(found.scale_N[n]) == pytest.approx(alpha, rel=1e-6, abs=1e-45)
                size = np.abs(unit).max() + abs(alpha) * np.abs(refs[chosen].numpy()).max()
                assert float(found.offset_N[n]) == pytest.approx(beta, rel=1e-5, abs=1e-6 * float(size))


@pytest.mark.parametrize("version", REFERENCE_VERSIONS)
@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (5, 4, 3, 3), (7, 1, 3, 3)])
def test_a_tensor_is_rebuilt_as_the_definition_says(version: str, shape: tuple[int, ...]) -> None:
    scheme = get_scheme(version, bind=4)
    unit = 9 * scheme.bind
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    refs = kernels("random", 12, unit)
    geometry = Geometry(shape, weight.numel(), unit, "w", unit)
    matches = match_tensor(weight, geometry, refs, scheme.fit)
    rebuilt = rebuild_tensor(matches, geometry, refs).flatten()
    assert len(matches.index_N) == -(-weight.numel() // unit)
    flat = weight.flatten().numpy()
    for n in range(len(matches.index_N)):
        part = slice(n * unit, min((n + 1) * unit, len(flat)))
        index, fits = best(flat[part], refs.numpy(), scheme.fit)
        alpha, beta, _ = fits[index]
        wanted = alpha * refs[index].double().numpy()[: part.stop - part.start] + beta
        np.testing.assert_allclose(rebuilt[part].numpy(), wanted, atol=2e-5)


@pytest.mark.parametrize("fit", ["copy", "affine"])
def test_of_equal_references_the_first_stands_however_many_there_are(fit: str) -> None:
    refs = kernels("random", 900, seed=3)
    units = refs[torch.arange(700) % 50] if fit == "copy" else 3.0 * refs[torch.arange(700) % 50] - 1.0
    twice = torch.cat([refs, refs])  # more references than one tile has
    assert torch.equal(match(units, twice, fit).index_N, torch.arange(700) % 50)
    later = torch.cat([refs[50:], refs])
    assert torch.equal(match(units, later, fit).index_N, 850 + torch.arange(700) % 50)


def test_permuting_references_permutes_indices_and_scaling_keeps_them() -> None:
    units, refs = kernels("random", 300, seed=4), kernels("random", 32, seed=5)
    plain = match(units, refs)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(6))
    assert torch.equal(order[match(units, refs[order]).index_N], plain.index_N)
    scaled = match(units * 2.0**-40, refs)
    assert torch.equal(scaled.index_N, plain.index_N)
    assert torch.equal(scaled.scale_N, plain.scale_N * 2.0**-40)
    shifted = match(units + 0.5, refs)
    assert torch.equal(shifted.index_N, plain.index_N)
    torch.testing.assert_close(shifted.scale_N, plain.scale_N, atol=1e-5, rtol=1e-5)


def test_rebuilding_rounds_the_product_and_then_the_sum() -> None:
    refs = torch.tensor([[1 + 2**-12, 1.0]])
    matches = Matches(torch.tensor([0]), torch.tensor([1 + 2**-12]), torch.tensor([-1.0]))
    product = np.float32(1 + 2**-12) * np.float32(1 + 2**-12)
    assert rebuild(matches, refs)[0, 0].item() == np.float32(product - np.float32(1))


def test_rounding_is_the_definition() -> None:
    weight = torch.tensor([-0.9, -0.26, 0.0, 0.26, 1.0])
    step = 1.9 / 7
    q = [max(-4, min(3, round(float(w) / step))) for w in weight]
    torch.testing.assert_close(round_to_bits(weight, 3), torch.tensor(q) * step)
    assert torch.equal(round_to_bits(torch.full((3,), 0.7), 3), torch.full((3,), 0.7))


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
@pytest.mark.parametrize("version", REFERENCE_VERSIONS)
def test_every_network_of_the_zoo_has_a_plan(arch: str, version: str) -> None:
    model = create_model(arch, width_mult=0.5)
    made = plan(model, get_scheme(version), pointwise=8, linear=True)
    targets = {target.name for group in made.groups for target in group.targets}
    assert targets
    assert targets <= set(model.state_dict())
    assert targets.isdisjoint(group.source.name for group in made.groups)
    if arch.startswith(("mobile", "shuffle")):
        assert all(target.shape[1] == 1 for target in made.groups[0].targets)


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 8, 5, groups=2)
        self.c, self.d = nn.Conv1d(8, 8, 3), nn.Conv1d(8, 8, 3, dilation=2)
        self.e, self.tied = nn.Conv2d(8, 8, 7), nn.Conv1d(8, 8, 3)
        self.tied.weight = self.d.weight


def test_a_foreign_network_is_grouped_by_kernel_size_and_tied_weights_are_found() -> None:
    made = plan(Foreign(), get_scheme("v2"))
    assert [(g.source.name, [t.name for t in g.targets]) for g in made.groups] == [
        ("a.weight", ["b.weight"]),
        ("c.weight", ["d.weight"]),
    ]
    assert made.tied == {"tied.weight": "d.weight"}


def test_what_cannot_be_stored_is_refused_by_name() -> None:
    good = {"a.weight": torch.randn(4, 3, 3, 3), "b.weight": torch.randn(4, 4, 3, 3)}
    scheme = get_scheme("v2")
    for wrong, said in (
        (torch.full((4,), torch.nan), "NaN"),
        (torch.full((4,), torch.inf), "infinity"),
        (torch.zeros(4, dtype=torch.complex64), "complex"),
        (torch.zeros(4).to_sparse(), "sparse"),
        (torch.empty(4, device="meta"), "without data"),
    ):
        with pytest.raises(WeightsError, match=f"wrong.bias.*{said}"):
            plan({**good, "wrong.bias": wrong}, scheme)
    with pytest.raises(OptionError, match="no convolution"):
        plan({"fc.weight": torch.randn(4, 4)}, scheme)
    with pytest.raises(OptionError, match="at least 3 layers"):
        plan(good, get_scheme("v2a"))
    with pytest.raises(OptionError, match=r"at most 12, the kernels of a\.weight"):
        plan(good, get_scheme("v3", bind=13))
    with pytest.raises(OptionError, match="v1, v2"):
        get_scheme("v5")
    for bits in (0, 40):
        with pytest.raises(OptionError, match="2 to 16 bits"):
            get_scheme("v2q", quant_bits=bits)


def test_tags_name_what_differs() -> None:
    assert [file_tag(get_scheme(v, bind=3, quant_bits=6)) for v in REFERENCE_VERSIONS] == [
        "v1",
        "v2",
        "v2a",
        "v2q_q6",
        "v3_d3",
        "v3a_d3",
    ]


@pytest.mark.parametrize("version", REFERENCE_VERSIONS)
def test_training_through_the_decoder_starts_at_the_stored_form_and_reaches_references(version: str) -> None:
    torch.manual_seed(0)
    model, twin = create_model("resnet", layers=8), create_model("resnet", layers=8)
    twin.load_state_dict(model.state_dict())
    names = list(model.state_dict())
    scheme = get_scheme(version)
    decoded = ReferenceTraining(model, scheme)
    project_(twin, scheme)
    torch.testing.assert_close(decoded.plain_state_dict(), dict(twin.state_dict()), atol=1e-5, rtol=1e-4)
    assert list(decoded.plain_state_dict()) == names
    assert decoded.rematch() == 0.0
    model(torch.randn(4, 3, 32, 32)).square().mean().backward()
    source = decoded.groups[0].source.name
    alone = [g.name for g in decoded.groups[0].targets]
    assert model.get_parameter(source).grad.abs().sum() > 0
    assert all(decoded.latent(name).grad.abs().sum() > 0 for name in alone)
    state = {k: {n: t.clone() for n, t in v.items()} for k, v in decoded.state_dict().items()}
    plain = {n: t.clone() for n, t in decoded.plain_state_dict().items()}
    with torch.no_grad():
        for name in alone:
            decoded.latent(name).copy_(torch.randn_like(decoded.latent(name)))
    assert decoded.rematch() > 0.0
    decoded.load_state_dict(state)
    decoded.load_plain(plain)
    assert all(torch.equal(t, state["index"][n]) for n, t in decoded.state_dict()["index"].items())
    assert all(torch.equal(t, plain[n]) for n, t in decoded.plain_state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model.eval()(images)
        decoded.detach()
        assert list(model.state_dict()) == names
        assert torch.equal(model(images), before)


@pytest.mark.parametrize("version", REFERENCE_VERSIONS)
def test_the_file_of_a_network_trained_through_the_decoder_is_what_was_tested(version: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("resnet", layers=8)
    decoded = ReferenceTraining(model, get_scheme(version))
    plain = {name: tensor.clone() for name, tensor in decoded.plain_state_dict().items()}
    options = StoreOptions(version=version)
    store(plain, tmp_path / "net.mess", Request(options, architecture=model.architecture, projected=frozenset(plain)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "net.mess")(images), model.eval()(images), atol=1e-4, rtol=1e-3)


def test_projected_kernels_are_tested_and_stored_as_they_are_until_the_next_step() -> None:
    """Rounding comes before the fit: of kernels that are α·R + β it would make others."""
    torch.manual_seed(0)
    model = create_model("resnet", "digits", layers=8, width_mult=0.5)
    choice = SchemeChoice(store=StoreOptions("v2q", quant_bits=4), project=True)
    job = Job(DataChoice("digits"), model.architecture, TrainOptions(epochs=2), scheme=choice)

    def hooks(ema: float = 0.0) -> Hooks:
        options = TrainOptions(epochs=2, ema=ema)
        return scheme_hooks(model, replace(job, options=options), rounds=0, input_facts={}, written=[])

    def moved(through: Hooks) -> float:
        """Return by how much kernels change for a test, relative and squared, the worst layer's."""
        before = {name: w.detach().clone() for name, w in model.named_parameters() if w.dim() == 4}
        with through.validated(model), torch.no_grad():
            now = dict(model.named_parameters())
            return max(float((now[n] - w).square().sum() / w.square().sum()) for n, w in before.items())

    first = hooks()
    first.after_epoch(0, model, True)
    assert moved(first) < 1e-12
    resumed = hooks()
    resumed.load_extra_state(first.extra_state())  # stopped between training and test
    assert moved(resumed) < 1e-12
    first.after_step(model)
    assert moved(first) > 1e-4
    averaged = hooks(ema=0.9)
    averaged.after_epoch(0, model, True)
    assert moved(averaged) > 1e-4  # an average of projected kernels and others is not projected


def test_layers_that_share_a_weight_share_it_through_the_decoder_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)))
    model[3].weight = model[2].weight
    decoded = ReferenceTraining(model, get_scheme("v2"))
    assert torch.equal(model[3].weight, model[2].weight)
    assert sum(p.shape == (4, 4, 3, 3) for p in model.parameters()) == 3
    with torch.no_grad():
        decoded.latent("3.weight").mul_(2.0)
    assert torch.equal(model[3].weight, model[2].weight)
    decoded.detach()
    assert torch.equal(model[3].weight, model[2].weight)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_constant_references_correlate_with_none(size: float) -> None:
    refs = torch.full((3, 9), 0.1) * size
    refs[1] *= 7.3
    refs[2, 4] *= 2
    assert pearson_penalty(refs, 1.0).item() == 0.0


@pytest.mark.parametrize("shape", [(48, 9), (6, 18), (300, 4), (1, 9)])
@pytest.mark.parametrize("falls", [0.0, -3.0], ids=["alike", "falling"])
def test_the_nuclear_norm_without_singular_values_is_theirs(shape: tuple[int, int], falls: float) -> None:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, falls, shape[1])
    refs, same = made.clone().requires_grad_(), made.clone().requires_grad_()
    found, wanted = nuclear_norm(refs), torch.linalg.svdvals(same).sum()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    found.backward()
    wanted.backward()
    assert float((refs.grad - same.grad).norm() / same.grad.norm()) < 1e-3
    assert nuclear_norm(torch.zeros(3, 9)) == 0


def test_penalties_are_their_formulas_and_have_right_gradients() -> None:
    refs = torch.randn(7, 9, generator=torch.Generator().manual_seed(8), requires_grad=True)
    expected = np.mean([np.corrcoef(refs[i].detach(), refs[j].detach())[0, 1] ** 2 for i in range(7) for j in range(i)])
    assert pearson_penalty(refs, 2.0).item() == pytest.approx(2 * expected, rel=1e-4)
    singular = np.linalg.svd(refs.detach().numpy(), compute_uv=False).sum()
    assert nuclear_penalty(refs, 3.0).item() == pytest.approx(3 / singular, rel=1e-5)
    for penalty in (nuclear_penalty, pearson_penalty):
        (gradient,) = torch.autograd.grad(penalty(refs, 1.0), refs)
        for place in ((0, 0), (3, 4), (6, 8)):
            moved = [refs.detach().clone() for _ in range(2)]
            for sign, one in zip((1, -1), moved, strict=True):
                one[place] += sign * 1e-2
            numeric = (penalty(moved[0], 1.0) - penalty(moved[1], 1.0)).item() / 2e-2
            assert gradient[place].item() == pytest.approx(numeric, rel=2e-2, abs=2e-4)
