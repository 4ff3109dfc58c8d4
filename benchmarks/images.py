"""Pictures from files to normalised batches, beside the plain pipeline of most training scripts.

    python benchmarks/images.py --pictures FOLDER

FOLDER has photographs (.jpg, .jpeg) at any depth. The plain pipeline: open, convert to RGB, crop, resize to 224,
mirror, to a float tensor, normalise, stack; in tests resize to 256 and crop the centre. Both are measured on the
photographs as they are, enlarged to ImageNet's usual 500 × 375, and to 2000 × 1500; on one thread by the processor
time they take, and through worker processes by the clock. Writes docs/results/images.json.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common import alternating, described, median, setting, write_rows
from mess.data import Batches, ImageFolder
from mess.data.decode import EncodedImage
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, DatasetInfo

ROUNDS = 7
BATCH = 20
SIZES = {"500 × 375": (500, 375), "2000 × 1500": (2000, 1500)}
LARGE = 20  # photographs of the last size
REPEATED = 4  # times that the workers go through the pictures in a round
WORKERS = 2
CROP, RESIZE = 224, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(p for p in args.pictures.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg"))
    with tempfile.TemporaryDirectory() as scratch:
        sets = {"as they are": paths} | {
            name: enlarged(paths, size, Path(scratch) / f"{size[0]}") for name, size in SIZES.items()
        }
        sets["2000 × 1500"] = sets["2000 × 1500"][:LARGE]
        row: dict[str, Any] = {"sets": {name: measured(these) for name, these in sets.items()}}
        row["workers"] = {
            what: in_processes(sets["500 × 375"] * REPEATED, train=train)
            for what, train in (("train", True), ("test", False))
        }
    row |= {**setting(), "threads": 1}
    write_rows("images", row)


def enlarged(paths: list[Path], size: tuple[int, int], folder: Path) -> list[Path]:
    """Write the photographs in another size, as JPEGs of quality 90."""
    folder.mkdir()
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC)
        fitted.save(folder / f"{number:03}.jpg", quality=90)
    return sorted(folder.iterdir())


def measured(paths: list[Path]) -> dict[str, Any]:
    """Return pictures a second of processor time: of both pipelines, and of nothing but decoding."""
    row: dict[str, Any] = {
        "pictures": len(paths),
        "pixels": int(np.median([np.prod(Image.open(p).size) for p in paths])),
        "bytes": int(np.median([p.stat().st_size for p in paths])),
    }
    tasks: dict[str, dict[str, Callable[[], object]]] = {
        "decode": {
            "plain": lambda: sum(decoded(p).height for p in paths),
            "ours": lambda: sum(len(EncodedImage(p).pixels()) for p in paths),
        },
        "train": {"plain": lambda: plain(paths, train=True, workers=0), "ours": ours(paths, train=True, workers=0)},
        "test": {"plain": lambda: plain(paths, train=False, workers=0), "ours": ours(paths, train=False, workers=0)},
    }
    for what, pair in tasks.items():
        seconds = alternating(pair, ROUNDS, time.process_time)
        row[what] = {name: round(len(paths) / median(s), 1) for name, s in seconds.items()}
        print(row["pixels"], what, row[what], flush=True)
    return row


def in_processes(paths: list[Path], *, train: bool) -> dict[str, float]:
    """Return pictures a second by the clock, decoded by worker processes."""
    pair = {
        "plain": lambda: plain(paths, train=train, workers=WORKERS),
        "ours": ours(paths, train=train, workers=WORKERS),
    }
    seconds = alternating(pair, ROUNDS)
    found = {name: round(len(paths) / median(s), 1) for name, s in seconds.items()}
    print(f"{WORKERS} workers", found, flush=True)
    return found


def ours(paths: list[Path], *, train: bool, workers: int) -> Callable[[], int]:
    """Return our pipeline over exactly these pictures."""
    info = DatasetInfo("photographs", 2, IMAGENET_MEAN, IMAGENET_STD, CROP)
    folder = ImageFolder(info, tuple(paths), np.zeros(len(paths), dtype=np.int64), train, RESIZE, CROP)
    batches = Batches(folder, BATCH, train=train, workers=workers)
    return lambda: sum(len(images) for images, _ in batches.epoch(0))


def plain(paths: list[Path], *, train: bool, workers: int) -> int:
    """Go through the pictures as most scripts do."""
    return sum(len(images) for images in DataLoader(Plain(paths, train), BATCH, num_workers=workers))


class Plain(Dataset[Tensor]):
    """Pictures prepared one by one."""

    def __init__(self, paths: list[Path], train: bool) -> None:
        self.paths, self.train = paths, train
        self.mean, self.std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image, dice = decoded(self.paths[index]), random.Random(index)
        if self.train:
            left, top, w, h = crop(image.size, dice)
            image = image.crop((left, top, left + w, top + h)).resize((CROP, CROP), Image.Resampling.BILINEAR)
            if dice.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            w, h = (RESIZE * side // min(image.size) for side in image.size)
            image = image.resize((w, h), Image.Resampling.BILINEAR)
            left, top = (w - CROP) // 2, (h - CROP) // 2
            image = image.crop((left, top, left + CROP, top + CROP))
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255
        return (tensor - self.mean) / self.std


def decoded(path: Path) -> Image.Image:
    """Return a picture as most scripts do."""
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


def crop(size: tuple[int, int], dice: random.Random) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a random crop, drawn as everybody does."""
    for _ in range(10):
        area = size[0] * size[1] * dice.uniform(0.08, 1.0)
        aspect = math.exp(dice.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= size[0] and 0 < h <= size[1]:
            return dice.randint(0, size[0] - w), dice.randint(0, size[1] - h), w, h
    side = min(size)
    return (size[0] - side) // 2, (size[1] - side) // 2, side, side


def page(row: dict[str, Any]) -> list[str]:
    """Return the results page."""
    first = row["sets"]["as they are"]
    lines = [
        "# Pictures",
        "",
        "`python benchmarks/images.py --pictures FOLDER`: pictures a second, from the file to normalised float32",
        f"batches of {CROP} × {CROP}, beside the plain pipeline of most training scripts: Pillow's open, convert,",
        f"crop, resize, mirror; to float, normalise, stack, one by one. {first['pictures']} photographs; the larger",
        f"sizes are the same ones enlarged, JPEG of quality 90. Medians of {ROUNDS} rounds, taken in turns.",
        described(row),
        "",
        "On one core (pictures a second of processor time). *Decoding* is that alone, to RGB pixels: what no pipeline",
        "can pass, except that training decodes large pictures smaller where the crop allows it.",
        "",
        "| pictures | what | plain pipeline | ours | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    texts = {"train": "training: random crop, mirror", "test": "test: resize, centre crop", "decode": "decoding alone"}
    for name in ("as they are", *SIZES):
        found = row["sets"][name]
        size = f"{name} (median {found['pixels']:,} pixels, {found['bytes']:,} B)"
        lines += [f"| {size} | {text} | {compared(found[what])} |" for what, text in texts.items()]
    lines += [
        "",
        f"Through {WORKERS} worker processes on {row['machine'].rpartition(', ')[2]}, by the clock (500 × 375). Other",
        "work had its share of the cores meanwhile, for both pipelines in turns: the ratio counts.",
        "",
        "| what | plain DataLoader | ours | ratio |",
        "|---|---:|---:|---:|",
    ]
    return [*lines, *(f"| {texts[what]} | {compared(row['workers'][what])} |" for what in ("train", "test"))]


def compared(found: dict[str, float]) -> str:
    """Return three cells."""
    return f"{found['plain']:.0f} | {found['ours']:.0f} | {found['ours'] / found['plain']:.2f}×"


if __name__ == "__main__":
    main()
