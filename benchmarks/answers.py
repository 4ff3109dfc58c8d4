"""What stored networks still answer, every method on the same networks and pictures: `make bench-results` runs it.

    python benchmarks/answers.py --datapath ../data
    python benchmarks/answers.py --datapath ../data --network ResNet-20 MobileNetV2 --methods "v4" "NNCodec|qp -24"
    python benchmarks/answers.py --datapath ../data --again "v4"      # rows of another commit, once more
    python benchmarks/answers.py --datapath ../data --list            # what is not measured yet

The networks and their pictures are those of networks.py, trainings those of runs.py; v4 is called as everybody calls
it. A row is written to docs/results/answers.json as soon as it is there, and rows that are there are not measured
again. Each row has a process of its own, which knows the unseen pictures only after the file is written.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mess
import peers
from common import in_a_process, read_rows, setting, write_rows
from mess.errors import MessError
from networks import SOURCES, Network, Source, answers, fetch
from peak import peak_mb
from runs import FOLDER, RUNS, VERSIONS, Run

NAME = "answers"
QPS = (-38, -32, -28, -26, -25, -24, -22, -20)  # NNCodec's steps: larger is coarser
BITS = (4, 8)
PALETTES = (16, 64, 256)  # colours of a layer
DEFAULT = "as it comes"
PRECISIONS = {32: (32, 32, 32), 8: (8, 8, 16)}  # bits of α, of β, of the rest
# what versions before v4 are measured on, and with how many bits
MATCHED: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "ResNet-20": (VERSIONS, tuple(PRECISIONS)),
    "ResNet-20, CIFAR-100": (("v2a",), (8,)),
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One row to measure.

    Attributes:
        count: calibration pictures, 0 for none.
        rate: v4's divergence, None for what it does when nothing is said; NNCodec's qp; bits; colours.
        seed: v4's, and which calibration pictures: the first `count`, or the next ones.
        run: the training that makes the file.
    """

    network: str
    method: str
    setting: str
    count: int = 0
    rate: float | None = None
    seed: int = 0
    run: Run | None = None

    @property
    def key(self) -> str:
        return f"{self.network}|{self.method}|{self.setting}" + (f", seed {self.seed}" if self.seed else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--network", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--methods", nargs="+", metavar="METHOD", default=[""], help="only rows that begin so")
    parser.add_argument("--again", nargs="+", metavar="METHOD", default=[], help="rows that begin so, if not of HEAD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of v4, with other calibration pictures")
    parser.add_argument("--list", action="store_true", help="print the rows that would be measured, and measure none")
    args = parser.parse_args()
    rows = read_rows(NAME)
    jobs = [job for name in args.network for job in plan(SOURCES[name], args.seeds)]
    jobs = [job for job in jobs if job.key.partition("|")[2].startswith(tuple(args.methods))]
    jobs = [job for job in jobs if job.key not in rows or stale(rows[job.key], args.again)]
    if args.list:
        print("\n".join(job.key for job in jobs))
        return
    measure(jobs, rows, args.datapath)


def stale(row: Row, again: list[str]) -> bool:
    """Tell whether a row of another commit is to be measured once more."""
    return row["commit"] != setting()["commit"] and f"{row['method']}|{row['setting']}".startswith(tuple(again))


def measure(jobs: list[Job], rows: dict[str, Row], datapath: Path) -> None:
    """Measure each row in a fresh process, and write it at once."""
    fetch()
    cuda = torch.cuda.is_available()
    for job in jobs:
        if job.run is not None and job.run.on_gpu and not job.run.done() and not cuda:
            print(f"{job.key}: left out, as it takes a GPU", flush=True)
            continue
        for run in (SOURCES[job.network].run, job.run):
            if run is not None:
                run.finish(datapath, cuda=cuda)
        found = in_a_process(measured, job, datapath)
        print(job.key, found, flush=True)
        if "refused" in found:
            continue
        rows[job.key] = {
            "network": job.network, "dataset": SOURCES[job.network].dataset, "method": job.method,
            "setting": job.key.rpartition("|")[2], "images": job.count, **found, **setting(), "seed": job.seed, "n": 1,
        }  # fmt: skip
        write_rows(NAME, rows)


def missing(rows: dict[str, Row]) -> list[Job]:
    """Return the rows of the plan that are not measured."""
    return [job for source in SOURCES.values() for job in plan(source, [0]) if job.key not in rows]


def plan(source: Source, seeds: list[int]) -> Iterator[Job]:
    """Yield the rows of a network, those of most worth first."""
    yield Job(source.name, "float", "", run=source.run)
    for run in RUNS:
        if run.network == source.name:
            yield Job(source.name, run.method, run.setting, run=run)
    versions, precisions = MATCHED.get(source.name, ((), ()))
    for version in versions:
        for bits in precisions:
            yield Job(source.name, version, f"stored, {bits} bits", rate=bits)
    if not source.counts:
        return
    for count in (*source.counts, 0):
        method = f"v4, {count:,} images" if count else "v4, no images"
        for seed in seeds:
            for rate in (None, *(source.rates if count else source.rates_without)):
                yield Job(source.name, method, DEFAULT if rate is None else f"{rate:g}", count, rate, seed)
    for qp in QPS:
        yield Job(source.name, "NNCodec", f"qp {qp}", rate=qp)
    for bits in BITS:
        yield Job(source.name, "integers + zstd", f"{bits} bits", rate=bits)
    for size in PALETTES:
        yield Job(source.name, "k-means + zstd", f"{size} colours", rate=size)
    yield Job(source.name, "ZipNN", "")


def measured(job: Job, datapath: Path) -> Row:
    """Store a network, then ask what comes back from the file; or say why it is refused."""
    source = SOURCES[job.network]
    network = source.load(datapath, job.count * (job.seed + 1), unseen=False)
    network = replace(network, calibration=network.calibration[job.count * job.seed :])
    if len(network.calibration) < job.count:
        return {"refused": f"{len(network.calibration)} calibration pictures left for seed {job.seed}"}
    method = METHODS[job.method.partition(",")[0]] if job.run in (None, source.run) else from_run
    try:
        stored, figures = method(job, network)
    except MessError as error:
        return {"refused": str(error)}
    asked = source.load(datapath, 0)
    return {**figures, **compared(reference(asked), answers(stored.eval(), asked.unseen), asked.labels_N)}


def as_float(job: Job, network: Network) -> tuple[nn.Module, Row]:
    floats = [t for n, t in network.module.state_dict().items() if not n.endswith("num_batches_tracked")]
    size = {"bytes": sum(t.numel() * t.element_size() for t in floats)}
    return network.module, size | (job.run.facts() if job.run is not None else {})


def from_run(job: Job, network: Network) -> tuple[nn.Module, Row]:
    if job.run is None:
        raise ValueError(f"{job.key} is of no training")
    return mess.load_into(network.module, job.run.path), {"bytes": job.run.path.stat().st_size, **job.run.facts()}


def by_nncodec(job: Job, network: Network) -> tuple[nn.Module, Row]:
    return _filled(network, peers.nncodec(network.module.state_dict(), int(job.rate or 0), rounds=1))


def by_integers(job: Job, network: Network) -> tuple[nn.Module, Row]:
    return _filled(network, peers.integers(network.module.state_dict(), int(job.rate or 0)))


def by_palette(job: Job, network: Network) -> tuple[nn.Module, Row]:
    return _filled(network, peers.palette(network.module.state_dict(), int(job.rate or 0)))


def by_zipnn(_job: Job, network: Network) -> tuple[nn.Module, Row]:
    return _filled(network, peers.zipnn(network.module.state_dict()))


def _filled(network: Network, outcome: peers.Outcome) -> tuple[nn.Module, Row]:
    network.module.load_state_dict(outcome.weights)
    peak = peak_mb() if outcome.peak_mb is None else outcome.peak_mb
    return network.module, {"bytes": outcome.bytes, "seconds": round(outcome.encode, 1), "peak_mb": round(peak)}


def by_v4(job: Job, network: Network) -> tuple[nn.Module, Row]:
    options: dict[str, Any] = {} if job.rate is None else {"divergence": job.rate}
    if job.seed:
        options["seed"] = job.seed
    return _compressed(network, "v4", calibration=network.calibration if job.count else None, **options)


def by_matching(job: Job, network: Network) -> tuple[nn.Module, Row]:
    bits = zip(("scale_bits", "offset_bits", "rest_bits"), PRECISIONS[int(job.rate or 32)], strict=True)
    return _compressed(network, job.method, **dict(bits))


def _compressed(network: Network, version: str, **options: Any) -> tuple[nn.Module, Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.mess"
        start = time.process_time()
        mess.compress(network.module, file, scheme=version, **options)
        seconds = time.process_time() - start
        figures = {"bytes": file.stat().st_size, "seconds": round(seconds, 1), "peak_mb": round(peak_mb())}
        return mess.load_into(copy.deepcopy(network.module), file), figures


METHODS: dict[str, Callable[[Job, Network], tuple[nn.Module, Row]]] = {
    "float": as_float,
    "NNCodec": by_nncodec,
    "integers + zstd": by_integers,
    "k-means + zstd": by_palette,
    "ZipNN": by_zipnn,
    "v4": by_v4,
    **dict.fromkeys(VERSIONS, by_matching),
}


def reference(network: Network) -> list[Tensor]:
    """Return the float network's answers to the unseen pictures, kept for the rows to come."""
    digest = hashlib.sha256(network.unseen.permute(0, 2, 3, 1).numpy().tobytes())
    for name, tensor in sorted(network.module.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    kept = FOLDER / "answers" / f"{digest.hexdigest()[:16]}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        torch.save(answers(network.module, network.unseen), part)
        part.replace(kept)
    return torch.load(kept, weights_only=True)


def compared(whole: list[Tensor], stored: list[Tensor], labels_N: Tensor | None) -> Row:
    """Return what a stored network's answers are beside the float network's.

    Class scores: accuracy and agreement in percent, and the mean divergence float‖stored in nats, None where scores
    are not finite. Other outputs: the squared error over the variance across pictures, the mean of all outputs.
    """
    if labels_N is None:
        shares = [
            (a - b).double().square().sum() / (a - a.mean(0)).double().square().sum()
            for a, b in zip(whole, stored, strict=True)
        ]
        return {"error": float(f"{torch.stack(shares).mean().item():.4g}")}
    a, b = whole[0], stored[0]
    p, q = F.log_softmax(a.double(), 1), F.log_softmax(b.double(), 1)
    divergence = (p.exp() * (p - q)).sum(1).mean().item()
    return {
        "pictures": len(labels_N),
        "top1": round(100 * (b.argmax(1) == labels_N).double().mean().item(), 2),
        "agreement": round(100 * (a.argmax(1) == b.argmax(1)).double().mean().item(), 2),
        "divergence": float(f"{divergence:.4g}") if math.isfinite(divergence) else None,
    }


if __name__ == "__main__":
    main()
