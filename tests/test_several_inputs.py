"""Networks of several inputs are looked at on batches of several, and what a batch means does not depend on chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mess
from mess.errors import DataError

COUNT = 48


class Both(nn.Module):
    """Takes an image and the number of a word."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.word, self.last = nn.Conv2d(3, 8, 3), nn.Embedding(7, 8), nn.Linear(8, 5)

    def forward(self, image: Tensor, word: Tensor) -> Tensor:
        assert word.dtype == torch.int64
        return self.last(self.conv(image).mean((2, 3)) * self.word(word))


class MayTakeTwo(nn.Module):
    """Takes a second input where there is one, and answers with something else then."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        answer = self.conv(image).mean((2, 3))
        return answer if other is None else answer * other.sum()


def images() -> Tensor:
    return torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def words() -> Tensor:
    return torch.arange(COUNT) % 7


def seen_by(network: nn.Module) -> list[int]:
    """Return a list that gets how many inputs each call of the network has."""
    counts: list[int] = []
    network.register_forward_pre_hook(lambda _, given: counts.append(len(given)))
    return counts


def batches(nested: bool) -> Iterator[tuple[object, ...]]:
    for image, word in DataLoader(TensorDataset(images(), words()), batch_size=16):
        yield ((image, word), torch.zeros(len(image), dtype=torch.int64)) if nested else (image, word)


@pytest.mark.parametrize(
    ("nested", "options"), [(True, {"divergence": 0.3}), (False, {"divergence": 0.3}), (False, {"max_drop": 50})]
)
def test_a_network_of_two_inputs_is_looked_at(nested: bool, options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Both()
    report = mess.compress(network, tmp_path / "net.mess", calibration=batches(nested), **options)
    assert report.look is not None
    assert report.look.divergence <= options.get("divergence", 1)
    again = mess.load_into(Both(), tmp_path / "net.mess")
    assert again(images(), words()).shape == (COUNT, 5)
    assert not network._forward_pre_hooks


def test_the_second_of_a_batch_is_labels_where_the_network_does_without_it(tmp_path: Path) -> None:
    for given, inputs in (((images(), words()), 1), (((images(), words().float()),), 2)):
        counts = seen_by(network := MayTakeTwo())
        mess.compress(network, tmp_path / "net.mess", calibration=[given], divergence=1.0)
        assert set(counts) == {inputs}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([((images(), words()[:3]),)], "several inputs as tensors of numbers, of one length"),
        ([((images(), "text"),)], "several inputs as tensors of numbers, of one length, found .*str"),
        ([(images(), words()), (images()[:, :, 1:], words())], "as before"),
        ([(images(), words() + (1 << 30))], "whole numbers up to 16,777,216"),
    ],
)
def test_inputs_that_do_not_fit_each_other_are_refused(given: list, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"calibration: expected .*{said}"):
        mess.compress(Both(), tmp_path / "net.mess", calibration=given)
    assert not (tmp_path / "net.mess").exists()


def test_without_inputs_it_is_said_how_to_give_them(tmp_path: Path) -> None:
    unseen = mess.compress(Both(), tmp_path / "net.mess").unseen
    assert unseen == "it takes several inputs (image, word), which nothing makes up: batches of them would be looked at"
