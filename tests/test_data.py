"""Images: both layouts of CIFAR, and an order that no set-up changes."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mess.data import Batches, open_dataset, stateless
from mess.data.info import KNOWN, image_set
from mess.data.views import random_box
from mess.errors import DataError, OptionError


def write_cifar(root: Path, name: str, *, python: bool, count: int = 20) -> None:
    """Write a tiny dataset in an official layout, the same images in either."""
    random = np.random.default_rng(0)
    coarse = name == "cifar100"
    files = ["train", "test"] if coarse else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for file in files:
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [int(x) for x in random.integers(0, 100 if coarse else 10, count)]
        if python:
            path = root / ("cifar-100-python" if coarse else "cifar-10-batches-py") / file
            content = pickle.dumps({b"data": data, b"fine_labels" if coarse else b"labels": labels}, protocol=2)
        else:
            path = root / ("cifar-100-binary" if coarse else "cifar-10-batches-bin") / f"{file}.bin"
            before = [np.zeros((count, 1), np.uint8)] if coarse else []
            content = np.concatenate([*before, np.array(labels, np.uint8)[:, None], data], axis=1).tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_layouts_give_the_same_images(name: str, train: bool, tmp_path: Path) -> None:
    sets = []
    for python in (False, True):
        root = tmp_path / str(python)
        write_cifar(root, name, python=python)
        sets.append(open_dataset(name, root, train=train))
    assert len(sets[0]) == (100 if train and name == "cifar10" else 20)
    assert torch.equal(sets[0].images_NCHW, sets[1].images_NCHW)
    assert torch.equal(sets[0].labels_N, sets[1].labels_N)


def test_damage_is_named_and_a_pickle_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cifar-10-batches-bin.*`mess fetch cifar10 .*unpack cifar-10-binary"):
        open_dataset("cifar10", tmp_path, train=True)
    write_cifar(tmp_path, "cifar10", python=False)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: expected records of 3073 bytes"):
        open_dataset("cifar10", tmp_path, train=True)
    file.write_bytes(b"\x0a" + content[1:])
    with pytest.raises(DataError, match="labels 0 to 9, found 10"):
        open_dataset("cifar10", tmp_path, train=True)
    (tmp_path / "py" / "cifar-10-batches-py").mkdir(parents=True)
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, -1]}
    (tmp_path / "py" / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match="labels 0 to 9, found -1"):
        open_dataset("cifar10", tmp_path / "py", train=False)
    file.unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin: expected a file"):
        open_dataset("cifar10", tmp_path, train=True)

    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    folder = tmp_path / "hostile" / "cifar-100-python"
    folder.mkdir(parents=True)
    (folder / "test").write_bytes(pickle.dumps({b"data": Bomb()}))
    with pytest.raises(DataError, match="it was not loaded"):
        open_dataset("cifar100", tmp_path / "hostile", train=False)
    (folder / "test").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(DataError, match="damaged"):
        open_dataset("cifar100", tmp_path / "hostile", train=False)
    assert not (tmp_path / "exploded").exists()


def test_digits_are_split_evenly_and_always_alike() -> None:
    train, test = open_dataset("digits", train=True), open_dataset("digits", train=False)
    assert (len(train), len(test)) == (1437, 360)
    assert train.images_NCHW.shape[1:] == (3, 32, 32)
    counts = torch.bincount(test.labels_N)
    assert int(counts.max()) - int(counts.min()) <= 2
    assert torch.equal(train.images_NCHW, open_dataset("digits", train=True).images_NCHW)


def counted(batches: list[Batches], epoch: int, first_step: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the images and labels of each global batch that count, the processes' parts joined in their order."""
    parts = [list(b.epoch(epoch, first_step)) for b in batches]
    steps = [[(images[: len(labels)], labels) for images, labels in step] for step in zip(*parts, strict=True)]
    return [(torch.cat([i for i, _ in step]), torch.cat([n for _, n in step])) for step in steps]


def same(one: list[tuple[torch.Tensor, torch.Tensor]], other: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return all(torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["in memory", "pictures"])
def test_any_set_up_sees_the_same_samples_with_the_same_crops(
    train: bool, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "pictures":
        data = open_dataset(str(request.getfixturevalue("pictures")), train=train, resize=32, crop=24, jitter=0.3)
        size, workers = 7, (0, 1, 2)  # 12 pictures: 7 and 5, or of the test 6
    else:
        write_cifar(tmp_path, "cifar10", python=False, count=9)
        data = open_dataset("cifar10", tmp_path, train=train)
        size, workers = (22 if train else 4), (0,)  # 45 images: 22, 22 and 1; of the test 4, 4 and 1
    make = {"batch_size": size, "train": train, "seed": 3}
    alone = counted([Batches(data, **make)], epoch=2)
    assert sum(len(labels) for _, labels in alone) == len(data)
    for world in (1, 2, 3):
        for n in workers:
            several = [Batches(data, **make, rank=r, world_size=world, workers=n) for r in range(world)]
            for first_step in range(len(alone) + 1):
                assert same(alone[first_step:], counted(several, 2, first_step)), (world, n, first_step)
            assert not train or min(len(images) for b in several for images, _ in b.epoch(2)) >= 2


@settings(max_examples=40, deadline=None)
@given(size=st.integers(6, 50), world=st.integers(1, 3), epoch=st.integers(0, 3), data=st.data())
def test_parts_join_to_the_order_of_the_epoch(size: int, world: int, epoch: int, data: st.DataObject) -> None:
    images = image_set(KNOWN["digits"], np.zeros((47, 3, 2, 2)), np.zeros(47))
    several = [Batches(images, size, train=True, seed=5, rank=r, world_size=world) for r in range(world)]
    first = data.draw(st.integers(0, len(several[0])))
    parts = [b.samples(epoch, first) for b in several]
    joined = [np.concatenate(step) for step in zip(*parts, strict=True)]
    assert [len(whole) for whole in joined] == [several[0].global_size(step) for step in range(first, len(several[0]))]
    order = stateless.permutation(5, epoch, 47)[first * size :]
    assert np.concatenate([*joined, []]).tolist() == order.tolist()


def test_order_crops_and_colours_are_golden() -> None:
    """Whatever changes one of these makes every checkpoint go on with another run."""
    assert stateless.permutation(0, 0, 8).tolist() == [2, 0, 1, 5, 6, 7, 3, 4]
    assert stateless.permutation(7, 3, 10).tolist() == [4, 6, 7, 0, 8, 9, 1, 2, 3, 5]
    sample_N = np.arange(6)
    assert stateless.draw(1, 2, sample_N[:3], stateless.FLIP).tolist() == [
        15417235679466118268, 4151434250658984048, 5437626513992229961,
    ]  # fmt: skip
    drawn = [stateless.integers(7, 3, sample_N, p, 9).tolist() for p in (stateless.ROW, stateless.COLUMN)]
    assert drawn == [[0, 5, 5, 8, 6, 6], [6, 1, 6, 6, 3, 8]]
    boxes = [(2, 4, 406, 373), (228, 24, 496, 310), (92, 54, 299, 263)]
    assert [random_box((500, 375), 7, 3, index) for index in range(3)] == boxes
    assert stateless.uniform(7, 3, sample_N[:2], stateless.COLOUR).tolist() == [0.07893435453951769, 0.6584401351272675]


def test_the_batches_themselves_are_golden() -> None:
    digits = open_dataset("digits", train=True, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)  # pixels as they are
    sha = hashlib.sha256()
    for images, labels in Batches(digits, 512, train=True, seed=7).epoch(3, first_step=1):
        sha.update(images.round().to(torch.uint8).contiguous().numpy().tobytes() + labels.numpy().tobytes())
    assert sha.hexdigest()[:16] == "c4739b239c13e2c7"


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(stateless.permutation(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    draws = stateless.uniform(1, 2, np.arange(20_000), stateless.FLIP)
    assert abs(draws.mean() - 0.5) < 0.01
    assert np.histogram(draws, 10, (0, 1))[0].min() > 1800


def test_images_are_normalised_and_shifted_by_at_most_the_padding(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10", python=False, count=4)
    data = open_dataset("cifar10", tmp_path, train=False, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    ((images, labels),) = list(Batches(data, 4, train=False, channels_last=True).epoch(0))
    torch.testing.assert_close(images, (data.images_NCHW / 255 - 0.5) / 0.25)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(labels, data.labels_N)
    with pytest.raises(OptionError, match="--std"):
        open_dataset("cifar10", tmp_path, train=False, std=(1.0, 0.0, 1.0))
    with pytest.raises(OptionError, match="--batch-size"):
        Batches(data, 1, train=True)
