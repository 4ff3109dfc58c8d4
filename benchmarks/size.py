"""Bytes against accuracy, every method on the same networks and the same test images: `make bench-size`.

    python benchmarks/size.py --datapath ../data --network "ResNet-20=resnet20.th" --network "ResNet-56=resnet56.th"
    python benchmarks/size.py --datapath ../data --network "ResNet-20 fine-tuned=ckpt_best.pth" \\
        --retrained "ResNet-20 fine-tuned=ckpt_best_v4.mess=rate weight 0.05, 15 epochs"

Networks are CIFAR networks that were trained with ImageNet's mean and std (`--own-normalisation`: with the dataset's);
their architecture is found by the shapes of the weights. Bytes are those of real files, accuracy is that of the network
read back from them. Calibrated rows look at the first 1,024 training images, without labels. Rows that
docs/results/peers.json has already are not measured again. Writes docs/results/peers.md and peers.png too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import peers
from common import read_rows, setting, write_page, write_rows
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD
from mess.models import Architecture
from mess.models.recognise import recognise
from mess.recipes import DataChoice, calibration_batches, calibration_inputs, score_network
from mess.storing import compress
from mess.weights_file import load_weights
from size_page import draw, page

NAME = "peers"
QPS = (-38, -32, -28, -26, -25, -24, -23, -22, -21, -20, -19, -18, -16)  # NNCodec's steps: larger is coarser
PALETTES = (16, 32, 64, 128, 256)
BITS = (4, 8)
WITHOUT_IMAGES = (0.001, 0.002, 0.004, 0.008)  # nats of divergence; 0.002 is the default
CALIBRATED = (0.0005, 0.001, 0.002, 0.0025, 0.003, 0.004, 0.008, 0.01, 0.016)
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """One network, and how it is tested."""

    label: str
    file: str
    architecture: Architecture
    data: DataChoice

    @property
    def weights(self) -> dict[str, Tensor]:
        return load_weights(self.file)[0]

    def scored(self, file: Path | str) -> float:
        return score_network(self.data, self.architecture, str(file)).scores.top1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE", help="float weights")
    parser.add_argument(
        "--retrained",
        action="append",
        default=[],
        metavar="NAME=FILE=HOW",
        help="a .mess file trained from it, and how",
    )
    parser.add_argument("--own-normalisation", action="store_true", help="trained with the dataset's own mean and std")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help='only rows that begin so: "v4" or "NNCodec|qp -24"'
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of calibrated storing")
    args = parser.parse_args()
    mean, std = (None, None) if args.own_normalisation else (IMAGENET_MEAN, IMAGENET_STD)
    data = DataChoice("cifar10", args.datapath, 0, mean, std)
    rows = read_rows(NAME)
    retrained = [tuple(text.split("=", 2)) for text in args.retrained]
    for text in args.network:
        label, _, file = text.partition("=")
        architecture = recognise({name: tuple(t.shape) for name, t in load_weights(file)[0].items()})
        if architecture is None:
            raise SystemExit(f"{file} is no network of the zoo")
        subject = Subject(label, file, architecture, data)
        trained = {how: Path(file) for name, file, how in retrained if name == label}
        for method, tag, measure in plan(subject, trained, args.seeds):
            key = f"{label}|{method}|{tag}"
            if key in rows or (args.methods and not f"{method}|{tag}".startswith(tuple(args.methods))):
                continue
            rows[key] = {"network": label, "method": method, "setting": tag, **measure(), **setting()}
            write_rows(NAME, rows)
            print(key, rows[key]["bytes"], rows[key]["top1"], flush=True)
    write_page(NAME, page(rows))
    draw(rows)


def plan(
    subject: Subject, retrained: Mapping[str, Path], seeds: list[int]
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Yield (method, setting, function that measures it)."""
    yield "float", "", lambda: float_row(subject)
    for qp in QPS:
        yield "NNCodec", f"qp {qp}", lambda q=qp: peer_row(subject, lambda w: peers.nncodec(w, q))
    yield "ZipNN", "", lambda: peer_row(subject, peers.zipnn)
    for size in PALETTES:
        yield "k-means + zstd", f"{size} colours", lambda s=size: peer_row(subject, lambda w: peers.palette(w, s))
    for bits in BITS:
        yield "integers + zstd", f"{bits} bits", lambda b=bits: peer_row(subject, lambda w: peers.integers(w, b))
    yield "v2q", "8 bits", lambda: matched_row(subject)
    for nats in WITHOUT_IMAGES:
        yield "v4, no images", f"{nats:g} nats", lambda n=nats: learned_row(subject, None, n, 0)
    yield "v4, 1,024 images", "a point, found by itself", lambda: learned_row(subject, True, None, 0)
    for seed in seeds:
        for nats in CALIBRATED:
            tag = f"{nats:g} nats" + (f", seed {seed}" if seed else "")
            yield "v4, 1,024 images", tag, lambda n=nats, s=seed: learned_row(subject, True, n, s)
    for how, file in retrained.items():
        yield "v4, retrained", how, lambda f=file: file_row(subject, f)


def float_row(subject: Subject) -> Row:
    floats = {n: t for n, t in subject.weights.items() if not n.endswith("num_batches_tracked")}
    size = sum(t.numel() * t.element_size() for t in floats.values())
    return {"bytes": size, "top1": subject.scored(subject.file)}


def peer_row(subject: Subject, method: Callable[[Mapping[str, Tensor]], peers.Outcome]) -> Row:
    outcome = method(subject.weights)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decoded.pth"
        torch.save(outcome.weights, file)
        return {"bytes": outcome.bytes, "top1": subject.scored(file), "seconds": round(outcome.encode, 1)}


def matched_row(subject: Subject) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.mess"
        start = time.perf_counter()
        bits = {"scale_bits": 8, "offset_bits": 8, "rest_bits": 16}
        compress(subject.weights, file, "v2q", architecture=subject.architecture, **bits)
        return {**file_row(subject, file), "seconds": round(time.perf_counter() - start, 1)}


def learned_row(subject: Subject, calibrated: bool | None, divergence: float | None, seed: int) -> Row:
    """Store at a rate, or where none is given at one that `compress` finds, on pictures after the first 1,024."""
    inputs = None
    if calibrated:
        inputs = calibration_batches(subject.data) if divergence is None else calibration_inputs(subject.data)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.mess"
        start = time.perf_counter()
        settings = {"architecture": subject.architecture, "divergence": divergence, "seed": seed}
        compress(subject.weights, file, "v4", inputs, **settings)
        seconds = time.perf_counter() - start
        return {**file_row(subject, file), "seconds": round(seconds), "seed": seed}


def file_row(subject: Subject, file: Path) -> Row:
    return {"bytes": file.stat().st_size, "top1": subject.scored(file)}


if __name__ == "__main__":
    main()
