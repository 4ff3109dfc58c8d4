"""The methods we are compared with: those of other packages through `peer_runner`, and the simple ones written out.

Each takes a state dict and returns the bytes of a file, the weights that come back from it, and seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import zstandard
from torch import Tensor

from common import ROOT

SMALLEST = 2.0**-24  # above zero in half precision: dead channels have weights below it
PYTHON = Path(os.environ.get("PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


@dataclass(frozen=True)
class Outcome:
    """What a method makes of a network."""

    bytes: int
    weights: dict[str, Tensor] = field(repr=False)
    encode: float
    decode: float
    peak_mb: float | None = None


def nncodec(weights: Mapping[str, Tensor], qp: int, rounds: int = 5) -> Outcome:
    """NNCodec (ISO/IEC 15938-17) with its defaults at a step size; decoded so many times."""
    return _elsewhere("nncodec", weights, ["--qp", str(qp), "--rounds", str(rounds)])


def zipnn(weights: Mapping[str, Tensor]) -> Outcome:
    """ZipNN, without loss."""
    return _elsewhere("zipnn", weights, [])


def palette(weights: Mapping[str, Tensor], size: int) -> Outcome:
    """A k-means palette a layer (of kernels and matrices), everything else in half precision, then zstd at 19."""
    return _zipped(weights, lambda tensor: _palette(tensor, size))


def integers(weights: Mapping[str, Tensor], bits: int) -> Outcome:
    """Symmetric integers with a step an output channel, everything else in half precision, then zstd at 19."""
    return _zipped(weights, lambda tensor: _integers(tensor, bits))


def _zipped(weights: Mapping[str, Tensor], coded: Callable[[Tensor], tuple[bytes, Tensor]]) -> Outcome:
    start = time.perf_counter()
    content, decoded = b"", {}
    for name, tensor in weights.items():
        if name.endswith("num_batches_tracked"):
            decoded[name] = tensor
        elif tensor.ndim > 1:
            part, decoded[name] = coded(tensor)
            content += part
        else:
            half = tensor.half()
            content += half.numpy().tobytes()
            decoded[name] = half.float()
    packed = zstandard.ZstdCompressor(level=19).compress(content)
    return Outcome(len(packed), decoded, time.perf_counter() - start, float("nan"))


def _palette(tensor: Tensor, size: int) -> tuple[bytes, Tensor]:
    """Lloyd's algorithm from evenly spaced quantiles, 50 rounds."""
    flat = tensor.flatten().double()
    centres = torch.quantile(flat[torch.randperm(len(flat))[:100_000]], torch.linspace(0, 1, size).double())
    for _ in range(50):
        index = torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)
        counts = torch.bincount(index, minlength=size)
        sums = torch.zeros(size, dtype=torch.float64).index_add_(0, index, flat)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres).sort().values
    index = torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)
    kept = centres.half()
    return kept.numpy().tobytes() + index.to(torch.uint8).numpy().tobytes(), kept.float()[index].reshape(tensor.shape)


def _integers(tensor: Tensor, bits: int) -> tuple[bytes, Tensor]:
    """Return the bytes, two 4-bit integers in each where they fit, and the rounded tensor."""
    rows = tensor.flatten(1)
    step = (rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp_min(SMALLEST).half().float()
    whole = torch.round(rows / step).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    raw = whole.to(torch.int8).numpy().ravel()
    if bits == 4:
        raw = np.append(raw, np.zeros(len(raw) % 2, np.int8))
        raw = ((raw[::2] & 15) | (raw[1::2] << 4)).astype(np.int8)
    return step.half().numpy().tobytes() + raw.tobytes(), (whole * step).reshape(tensor.shape)


def _elsewhere(peer: str, weights: Mapping[str, Tensor], flags: list[str]) -> Outcome:
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: `make peers` installs NNCodec and ZipNN (they need NumPy below 2)")
    floats = {name: t.numpy() for name, t in weights.items() if not name.endswith("num_batches_tracked")}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **floats)
        command = [str(PYTHON), str(Path(__file__).with_name("peer_runner.py")), peer, str(source), str(target), *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if run.returncode:
            raise SystemExit(f"{peer} failed:\n{run.stderr[-2000:]}")
        figures = json.loads(run.stdout.splitlines()[-1])
        with np.load(target) as stored:
            decoded = {name: torch.from_numpy(stored[name].astype(floats[name].dtype)) for name in floats}
    decoded = {name: t.reshape(weights[name].shape) for name, t in decoded.items()}
    rest = {name: t for name, t in weights.items() if name not in decoded}
    return Outcome(figures["bytes"], {**decoded, **rest}, figures["encode"], figures["decode"], figures["peak_mb"])
