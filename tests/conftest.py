"""What many tests need: one thread a process, and a place of one's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

# the suite runs in two processes, each on a core; set before torch is imported, here and in what tests start
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np
import pytest
from PIL import Image

from mess.data import ImageSet, digits
from web_server import Server

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real weights and pictures that are not in the repository."""
    if not SHARED.is_dir():
        pytest.skip("../shared, with real weights and pictures, is not here")
    return SHARED


@pytest.fixture(autouse=True)
def usual_log() -> Iterator[None]:
    """Leave what is logged as it was: a command that runs in this process with --quiet would silence later tests."""
    log = logging.getLogger("mess")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, as a user does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@cache
def every_nth_digit(n: int, *, train: bool) -> ImageSet:
    every = digits.load_digits(train=train)
    return replace(every, images_NCHW=every.images_NCHW[::n], labels_N=every.labels_N[::n])


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and test on a quarter of `digits`, 360 and 90 images: for what does not hang on how much is learned."""
    monkeypatch.setattr("mess.data.open.load_digits", partial(every_nth_digit, 4))


@pytest.fixture
def few_digits_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on a quarter of `digits`, and test on all 360 that are for testing."""
    monkeypatch.setattr("mess.data.open.load_digits", lambda *, train: every_nth_digit(4 if train else 1, train=train))


@pytest.fixture
def a_handful_of_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on 90 images and test on 23: for what is the same after any step."""
    monkeypatch.setattr("mess.data.open.load_digits", partial(every_nth_digit, 16))


@pytest.fixture
def quick_synthesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make up few images in few steps, for what does not hang on what comes of them."""
    monkeypatch.setattr("mess.scheme.learned.inputs.SYNTHETIC", 32)
    monkeypatch.setattr("mess.scheme.learned.inputs.STEPS", 2)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of pictures: train and val, of two classes."""
    random = np.random.default_rng(1)
    for split, count in (("train", 6), ("val", 3)):
        for label in ("b_dog", "a_cat"):
            folder = tmp_path / "own" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (40 + i, 50 - i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    return tmp_path / "own"
