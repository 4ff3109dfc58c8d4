"""Every version of the scheme on CIFAR-10: bytes of real files, and accuracy of what is read back from them.

    python benchmarks/schemes.py --datapath ../data --network resnet20=checkpoint/resnet/cifar10/ckpt_best.pth
    python benchmarks/schemes.py --datapath ../data --imagenet-normalised --network resnet56=resnet56.th

    python benchmarks/schemes.py --datapath ../data --scratch 12 --versions v2 v2a

Rows that docs/results/schemes.json has already are not measured again. `--retrain E` adds E epochs of retraining in
both ways to every version; `--scratch E` trains ResNet-20 for E epochs from random weights: without a scheme, and
through the decoder, also with each penalty on the references. Writes docs/results/schemes.md too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import read_rows, setting, write_page, write_rows
from mess import models
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD
from mess.recipes import DataChoice, Job, SchemeChoice, run_job, score_network
from mess.storing import Request, StoreOptions, store
from mess.training import Reporter, TrainOptions
from mess.weights_file import load_weights

PRECISIONS = {"32": (32, 32, 32), "8": (8, 8, 16)}  # bits of α, of β, of the rest
VERSIONS = ("v1", "v2", "v2a", "v2q", "v3", "v3a")
PENALTIES = {"": {}, " --nl": {"nuclear": 1.0}, " --pl": {"pearson": 1.0}}  # the scales are the defaults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE", help="resnetN=weights file")
    parser.add_argument("--label", default="", help="what to call these weights in the table")
    parser.add_argument("--imagenet-normalised", action="store_true", help="trained with ImageNet's mean and std")
    parser.add_argument("--retrain", type=int, default=0, metavar="E", help="epochs of retraining a version")
    parser.add_argument("--scratch", type=int, default=0, metavar="E", help="epochs of ResNet-20 from random weights")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, choices=VERSIONS)
    parser.add_argument("--precision", default="bf16", help="of retraining (default: bf16)")
    args = parser.parse_args()
    rows = read_rows("schemes")
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if args.imagenet_normalised else (None, None)
    data = DataChoice("cifar10", args.datapath, 0, mean, std)
    for key, measure in plan(data, args):
        if key not in rows:
            rows[key] = {**measure(), **setting()}
            write_rows("schemes", rows)
            print(key, rows[key], flush=True)
    write_page("schemes", table(rows))


def plan(data: DataChoice, args: argparse.Namespace) -> Any:
    """Yield (key of a row, function that measures it)."""
    for text in args.network:
        name, _, file = text.partition("=")
        architecture = models.resolve("resnet", "cifar10", layers=int(name.removeprefix("resnet")))
        yield from network_plan(f"{name} {args.label}".strip(), architecture, file, data, args)
    if args.scratch:
        label, epochs = "resnet20 from scratch", args.scratch
        for penalty, scales in PENALTIES.items():
            for version in args.versions:
                key = f"{label}|{version}|{epochs} epochs{penalty}"
                yield key, lambda v=version, s=scales: scratch_row(data, args, SchemeChoice(
                    store_options(v, "8"), **s
                ))  # fmt: skip
        yield f"{label}|float", lambda: scratch_row(data, args, SchemeChoice())


def network_plan(
    label: str, architecture: models.Architecture, file: str, data: DataChoice, args: argparse.Namespace
) -> Any:
    """Yield (key of a row, function that measures it) for one trained network."""
    yield f"{label}|float", lambda: float_row(architecture, file, data)
    for version in args.versions:
        for bits in PRECISIONS:
            yield f"{label}|{version}|{bits}", lambda v=version, b=bits: stored_row(architecture, file, data, v, b)
        if args.retrain:
            for way in ("decoder", "project"):
                key = f"{label}|{version}|{way} {args.retrain} epochs"
                yield key, lambda v=version, w=way: retrained_row(architecture, file, data, v, w, args)


def float_row(architecture: models.Architecture, file: str, data: DataChoice) -> dict[str, Any]:
    weights, _ = load_weights(file)
    tested = score_network(data, architecture, file)
    size = sum(t.numel() * t.element_size() for n, t in weights.items() if not n.endswith("num_batches_tracked"))
    return {"bytes": size, "top1": tested.scores.top1}


def stored_row(
    architecture: models.Architecture, file: str, data: DataChoice, version: str, bits: str
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "net.mess"
        options = store_options(version, bits)
        report = store(load_weights(file)[0], target, Request(options, architecture=architecture, verify=True))
        tested = score_network(data, architecture, str(target))
        return {"bytes": report.bytes, "top1": tested.scores.top1}


def retrained_row(
    architecture: models.Architecture, file: str, data: DataChoice, version: str, way: str, args: argparse.Namespace
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(epochs=args.retrain, lr=0.02, precision=args.precision, save_epoch=1, print_freq=10**6)
        scheme = SchemeChoice(store_options(version, "8"), project=way == "project")
        job = Job(data, architecture, options, scheme=scheme, ckpt=file, checkpoints=Path(folder))
        target = run_job(job, Reporter()).files[-1]
        tested = score_network(data, architecture, str(target))
        return {"bytes": target.stat().st_size, "top1": tested.scores.top1, "epochs": args.retrain}


def scratch_row(data: DataChoice, args: argparse.Namespace, scheme: SchemeChoice) -> dict[str, Any]:
    architecture = models.resolve("resnet", "cifar10", layers=20)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(
            epochs=args.scratch, lr=0.2, schedule="onecycle", precision=args.precision, save_epoch=1,
            print_freq=10**6,
        )  # fmt: skip
        result = run_job(Job(data, architecture, options, scheme=scheme, checkpoints=Path(folder)), Reporter())
        target = str(result.files[-1] if result.files else Path(folder) / "resnet" / "cifar10" / "ckpt_best.pth")
        if scheme.store is None:
            return float_row(architecture, target, data)
        tested = score_network(data, architecture, target)
        return {"bytes": Path(target).stat().st_size, "top1": tested.scores.top1, "epochs": args.scratch}


def store_options(version: str, bits: str) -> StoreOptions:
    scale, offset, rest = PRECISIONS[bits]
    return StoreOptions(version=version, scale_bits=scale, offset_bits=offset, rest_bits=rest)


def table(rows: dict[str, Any]) -> list[str]:
    """Return the page: one table a network, a line a version, a column a way to store or train."""
    lines = [
        "# Every version of the scheme, CIFAR-10",
        "",
        "CIFAR-10, seed 0, n = 1. Bytes are those of the file, accuracy is top-1 % of the network read",
        "back from it on all 10,000 test images. 8 bits: α and β in 8 bits, the rest in half precision; 32 bits: all",
        "as they are. Retrained and trained networks are stored in 8 bits; of their epochs the best is kept, chosen",
        "on the test images, as the float network's is. Made by `python benchmarks/schemes.py` (its docstring has the",
        "commands); schemes.json has commit, machine and versions of each row.",
    ]
    for label in dict.fromkeys(key.split("|")[0] for key in rows):
        if (whole := rows.get(f"{label}|float")) is None:
            continue
        found = [key.split("|")[1:] for key in rows if key.startswith(f"{label}|") and not key.endswith("|float")]
        versions, seen = {version for version, _ in found}, {way for _, way in found}
        ways = [*(bits for bits in PRECISIONS if bits in seen), *sorted(seen - PRECISIONS.keys())]
        lines += [
            "",
            f"## {label}: {whole['top1']:.2f} %, {whole['bytes']:,} B as float",
            "",
            "| version | " + " | ".join(f"{way} bits" if way in PRECISIONS else way for way in ways) + " |",
            "|---|" + "---:|" * len(ways),
        ]
        for version in [v for v in VERSIONS if v in versions]:
            cells = [rows.get(f"{label}|{version}|{way}") for way in ways]
            shown = [f"{cell['bytes']:,} → {cell['top1']:.2f}" if cell else "–" for cell in cells]
            lines.append(f"| {version} | " + " | ".join(shown) + " |")
    return lines


if __name__ == "__main__":
    main()
