"""What each part of version 4 is worth: bytes without it at the same divergence, on networks of several kinds.

    python benchmarks/ablation.py --datapath ../data                     # `make bench-ablation`; resumes
    python benchmarks/ablation.py --datapath ../data --network ResNet-20 --seeds 0 1 2
    python benchmarks/ablation.py --datapath ../data --ingredients full "row steps" --again
    python benchmarks/ablation.py --datapath ../data --list              # what is not measured yet

Each row is a file, rounded once at a given λ without one of ablation_ingredients.py, or with one of ablation_tried.py,
read back, and asked about pictures that nothing was learned from. A seed stands for other calibration pictures, too. A
row is written to docs/results/ablation.json as soon as it is there; each has a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional as F

import mess
from ablation_ingredients import INGREDIENTS, learn, swapped
from ablation_tried import TRIED
from answers import compared, reference
from common import in_a_process, read_rows, setting, write_rows
from mess import codec
from mess.arithmetic.levels import Levels
from mess.models.described import layout_of
from mess.storing.entries import Coded
from mess.storing.rate import Search
from networks import SOURCES, Network, answers, fetch
from peak import peak_mb

NAME = "ablation"
FULL = "full"
SEEDS = (0, 1)
FEW = 1000  # pictures
NEARER = 16  # this part of the side is cut off at each edge
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured of a network.

    Attributes:
        kind: of network.
        images: that it is rounded with.
        unseen: pictures that files are asked about, at most; of few pictures several views.
        rates: nats that λ is for, of the full method, from fine to coarse: a curve to read bytes from.
        ablated: the same of files without one part.
        tried: what is not in the method is measured too; it is for class scores and BatchNorm.
    """

    kind: str
    images: int
    unseen: int
    rates: tuple[float, ...]
    ablated: tuple[float, ...]
    tried: bool = True


PLANS = {
    "ResNet-20": Plan("residual", 1024, 10_000, (0.01, 0.014, 0.02, 0.028, 0.04, 0.056), (0.02,)),
    "MobileNetV2": Plan("depthwise", 128, 266, (0.01, 0.02, 0.04), (0.02,)),
    "WRN-16-4": Plan("wide", 256, 2000, (0.014, 0.02, 0.028), (0.02,)),
    **{name: Plan("of MTCNN", 512, 1064, (0.01, 0.02, 0.04), (0.02,), False) for name in ("P-Net", "R-Net", "O-Net")},
}


@dataclass(frozen=True)
class Job:
    """One file."""

    network: str
    ingredient: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.network}|{self.ingredient}|{self.rate:g}, seed {self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--network", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    names = [FULL, *(name for name, ingredient in INGREDIENTS.items() if not ingredient.coder), *TRIED]
    parser.add_argument("--ingredients", nargs="+", choices=names, default=names)
    parser.add_argument("--rates", nargs="+", type=float, default=[], help="of files without a part")
    parser.add_argument("--again", action="store_true", help="rows of another commit as well")
    parser.add_argument("--list", action="store_true", help="print the rows that would be measured, and measure none")
    args = parser.parse_args()
    rows, commit = read_rows(NAME), setting()["commit"]
    jobs = [job for name in args.network for seed in args.seeds for job in plan(name, seed, args.rates)]
    jobs = [job for job in jobs if job.ingredient in args.ingredients]
    jobs = [job for job in jobs if job.key not in rows or (args.again and rows[job.key]["commit"] != commit)]
    if args.list:
        print("\n".join(job.key for job in jobs))
        return
    fetch()
    with tempfile.TemporaryDirectory() as scratch:
        for job in jobs:
            found = in_a_process(measured, job, args.datapath, Path(scratch))
            print(job.key, found, flush=True)
            rows = read_rows(NAME) | {job.key: found}
            write_rows(NAME, rows)


def plan(network: str, seed: int, rates: Sequence[float] = ()) -> Iterator[Job]:
    """Yield the rows of a network: the full method first, then all parts at one rate after the other."""
    own = PLANS[network]
    for rate in own.rates:
        yield Job(network, FULL, rate, seed)
    for rate in rates or own.ablated:
        for name, ingredient in INGREDIENTS.items():
            if not ingredient.coder:
                yield Job(network, name, rate / ingredient.finer, seed)
        for name in TRIED if own.tried else ():
            yield Job(network, name, rate, seed)


def measured(job: Job, datapath: Path, scratch: Path) -> Row:
    """Store a network once, then ask what comes back from the file.

    Args:
        scratch: for what files of one network and seed have in common.
    """
    source, own = SOURCES[job.network], PLANS[job.network]
    first = own.images * job.seed
    network = source.load(datapath, first + own.images, unseen=False)
    calibration = network.calibration[first:]
    if len(calibration) < own.images:
        raise SystemExit(f"{job.key}: {len(calibration)} pictures left for this seed, not {own.images}")
    with tempfile.TemporaryDirectory() as folder:
        file, weighed = Path(folder) / "net.mess", scratch / f"{job.network}, {job.seed}.pt"
        with patch.object(learn, "output_sensitivity", computed_once(learn.output_sensitivity, weighed)):
            figures = stored(job, replace(network, calibration=calibration), file)
        again = mess.load_into(copy.deepcopy(network.module), file)
    asked = seen_often(source.load(datapath, 0), own.unseen)
    return {
        "network": job.network, "ingredient": job.ingredient, "rate": job.rate, "images": own.images, **figures,
        **compared(reference(asked), answers(again.eval(), asked.unseen), asked.labels_N),
        **setting(), "seed": job.seed, "n": 1,
    }  # fmt: skip


def seen_often(network: Network, most: int) -> Network:
    """Return a network with so many unseen pictures; of few each also mirrored, nearer, and both: four views.

    Of a few hundred pictures some dozens decide what the divergence is, and chance decides what rounding does to them.
    """
    pictures, labels_N = network.unseen[:most], network.labels_N
    labels_N = None if labels_N is None else labels_N[:most]
    if len(pictures) < FEW:
        side = pictures.shape[-1]
        inside = slice(side // NEARER, side - side // NEARER)
        nearer = F.interpolate(pictures[..., inside, inside], (side, side), mode="bilinear", antialias=True)
        pictures = torch.cat([pictures, pictures.flip(3), nearer, nearer.flip(3)])
        labels_N = None if labels_N is None else labels_N.repeat(4)
    return replace(network, unseen=pictures.contiguous(memory_format=torch.channels_last), labels_N=labels_N)


def stored(job: Job, network: Network, file: Path) -> Row:
    """Write the file, and return what it takes: of the full method also without each part of the coder."""
    start = time.process_time()
    given = {"divergence": job.rate, "seed": job.seed, "calibration": network.calibration}
    # nothing is held out of the pictures to round with, as nothing is searched for; and `measured` reads the file back
    options: dict[str, Any] = {**given, "validation": network.calibration[:1], "verify": False}
    with patch("mess.storing.learned.to_divergence", once):
        if job.ingredient == FULL:
            mess.compress(network.module, file, **options)
        else:
            with swapped({**INGREDIENTS, **TRIED}[job.ingredient].swaps):
                mess.compress(network.module, file, **options)
    seconds = time.process_time() - start
    found = {"bytes": file.stat().st_size, "seconds": round(seconds, 1), "peak_mb": round(peak_mb())}
    return found | ({} if job.ingredient != FULL else {"coded without": recoded(file)})


def computed_once(output_sensitivity: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """Weigh channels, or take what was found of them before: that is half of the time, and the same for every λ."""

    def made(*args: Any, **options: Any) -> Any:
        if not file.exists():
            torch.save(output_sensitivity(*args, **options), file)
        return torch.load(file, weights_only=False)

    return made


def once(search: Search, divergence: float, *, met: bool) -> Coded:  # noqa: ARG001
    """Round at the λ of a divergence, whatever comes of it: in place of the search for a rate."""
    return search.rounded_at(divergence, "one round")


def recoded(file: Path) -> dict[str, int]:
    """Return how long the same integers are without levels of rows and columns; only such a reader could read them."""
    model = codec.read_model(file, layout=layout_of)
    entries = {name: told_by_term(entry) for name, entry in model.entries.items()}
    return {"levels": len(codec.encode_model(replace(model, entries=entries), layout_of))}


def told_by_term(entry: codec.Entry) -> codec.Entry:
    """Return an entry that says of its integers how large those of a term are, and no more."""
    if not isinstance(entry, codec.Expanded) or entry.levels is None:
        return entry
    return replace(entry, integers_RCK=entry.indices, levels=Levels(entry.levels.terms_K))


if __name__ == "__main__":
    main()
