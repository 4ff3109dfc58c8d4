"""What is left out is left out, and nothing else: the parts of benchmarks/ablation.py, and how shares are read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mess
from mess.scheme.learned import LearnOptions, learn
from mess.storing.rate import Search

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablation
import ablation_page
import ablation_tried
from ablation_ingredients import INGREDIENTS, swapped
from ablation_tried import TRIED
from networks import Network

ROUNDED = [name for name, ingredient in INGREDIENTS.items() if not ingredient.coder]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    norm.weight.data = torch.logspace(-2, 1, 8)  # so that the next layer's inputs differ much
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        norm,
        nn.ReLU(),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def smooth_inputs() -> torch.Tensor:
    return F.avg_pool2d(torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 3, 1)


@pytest.fixture(scope="module")
def found() -> dict[str, list[object]]:
    """Return what a small network comes to without each part, with all of them before and after."""

    def rounded() -> list[object]:
        learned = learn(small_network(), smooth_inputs(), LearnOptions(divergence=0.05))
        layers = [(x.integers_OCT.tolist(), x.step, str(x.exponents)) for x in learned.layers.values()]
        return [layers, learned.vector_bits]

    results = {"before": rounded()}
    for name in ROUNDED:
        with swapped(INGREDIENTS[name].swaps):
            results[name] = rounded()
    return {**results, "after": rounded()}


def test_leaving_a_part_out_leaves_no_trace(found: dict[str, list[object]]) -> None:
    assert found["after"] == found["before"]


@pytest.mark.parametrize("name", ROUNDED)
def test_a_part_that_is_left_out_changes_what_a_network_comes_to(name: str, found: dict[str, list[object]]) -> None:
    assert found[name] != found["before"]


@pytest.mark.parametrize("name", TRIED)
def test_what_was_tried_is_done_to_a_file_and_leaves_no_trace(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation_tried, "STEPS", 20)
    network = Network("small", small_network().eval(), smooth_inputs(), torch.empty(0), None)

    def weights(ingredient: str) -> torch.Tensor:
        ablation.stored(ablation.Job("small", ingredient, 0.05, 0), network, tmp_path / "net.mess")
        return torch.cat([t.flatten().float() for t in mess.load_state_dict(tmp_path / "net.mess").values()])

    plain_N, with_N, again_N = weights(ablation.FULL), weights(name), weights(ablation.FULL)
    assert torch.equal(plain_N, again_N)
    assert 0 < float((with_N - plain_N).norm() / plain_N.norm()) < 0.2


def test_a_file_is_rounded_once_at_the_rate_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("small", small_network(), smooth_inputs(), torch.empty(0), None)
    rates = []
    rounded_at = Search.rounded_at
    monkeypatch.setattr(
        Search, "rounded_at", lambda self, rate, what: rates.append(rate) or rounded_at(self, rate, what)
    )
    found = ablation.stored(ablation.Job("small", ablation.FULL, 0.05, 0), network, tmp_path / "net.mess")
    assert rates == [0.05]
    assert found["bytes"] == (tmp_path / "net.mess").stat().st_size
    assert found["coded without"]["levels"] > 0.9 * found["bytes"]
    mess.load_into(small_network(), tmp_path / "net.mess")


def row(
    ingredient: str, divergence: float, size: float, seed: int = 0, network: str = "ResNet-20"
) -> dict[str, object]:
    own = {"network": network, "ingredient": ingredient, "divergence": divergence, "bytes": size, "seed": seed}
    place = {"commit": "abc", "machine": "one", "threads": 1, "torch": "2", "pictures": 10_000, "rate": 0.02}
    return {
        **own,
        **place,
        "agreement": 98.0,
        "top1": 91.5,
        "seconds": 20.0,
        "coded without": {"levels": 1.05 * size},
    }


def test_a_share_is_read_at_equal_divergence_beside_files_of_its_seed() -> None:
    rows = {}
    for network in ("ResNet-20", "WRN-16-4"):
        for seed in (0, 1):
            for d in (0.01, 0.02, 0.04):
                rows[f"{network} {seed} {d}"] = row("full", d, round(1000 * d**-0.3 * (1 + 0.01 * seed)), seed, network)
            rows[f"{network} {seed} a"] = row("references", 0.03, round(1100 * 0.03**-0.3), seed, network)
            rows[f"{network} {seed} b"] = row("row steps", 0.08, round(1000 * 0.08**-0.3), seed, network)
    text = "\n".join(ablation_page.page(rows))
    # each seed beside its own files: a tenth more than 1,000 and than 1,010
    assert "| references | +9.5 ± 0.0 % | +9.5 ± 0.0 % | 2 of 2 |" in text
    assert "| references | 0: +10.0 %, 1: +8.9 % |" in text
    assert "| row steps | -0.5 ± 0.0 %° | -0.5 ± 0.0 %° | 0 of 2 |" in text
    assert "| levels | +5.0 % | +5.0 % | 2 of 2 |" in text
    assert "| curvature | – | – | – |" in text
