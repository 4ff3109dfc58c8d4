"""Runs NNCodec and ZipNN in the environment they need (`make peers`); called by the other benchmarks, one process each.

    .venv-peers/bin/python benchmarks/peer_runner.py nncodec WEIGHTS.npz OUT.npz --qp -24
    .venv-peers/bin/python benchmarks/peer_runner.py zipnn WEIGHTS.npz OUT.npz

WEIGHTS.npz holds a state dict; OUT.npz gets what is decoded from the peer's bytes. Prints one line of JSON: the size of
the bytes, seconds of processor time of encoding (once) and decoding (median of `--rounds`), on one thread, and the most
memory the process held.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peak import peak_mb

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=("nncodec", "zipnn"))
    parser.add_argument("weights")
    parser.add_argument("output")
    parser.add_argument("--qp", type=int, default=-24, help="NNCodec's step: larger is coarser")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of decoding")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.weights) as stored:
        weights = {name: stored[name] for name in stored.files}
    run = nncodec if args.peer == "nncodec" else zipnn
    print(json.dumps({**run(weights, args.output, args.qp, args.rounds), "peak_mb": peak_mb()}))


def nncodec(weights: dict[str, np.ndarray], output: str, qp: int, rounds: int) -> dict[str, Any]:
    """Store a state dict with NNCodec's defaults (dependent quantisation on) at one step size."""
    with without_torchvision_operators():
        from nncodec.nnc import compress, decompress

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.nnc")
        encode, content = timed(lambda: compress(dict(weights), bitstream_path=path, qp=qp, return_bitstream=True), 1)
        decode, decoded = timed(lambda: decompress(content), rounds)
    np.savez(output, **{name: np.asarray(array) for name, array in decoded.items()})
    return {"bytes": len(content), "encode": encode, "decode": decode}


def zipnn(weights: dict[str, np.ndarray], output: str, _qp: int, rounds: int) -> dict[str, Any]:
    """Pack all float32 numbers, one tensor after the other, without loss."""
    from zipnn import ZipNN

    floats = {name: array for name, array in weights.items() if array.dtype == np.float32}
    raw = np.concatenate([array.ravel() for array in floats.values()]).tobytes()
    coder = ZipNN(input_format="byte", bytearray_dtype="float32")
    encode, content = timed(lambda: coder.compress(bytearray(raw)), 1)
    decode, decoded = timed(lambda: ZipNN(input_format="byte").decompress(content), rounds)
    if bytes(decoded) != raw:
        raise SystemExit("ZipNN did not give back what it was given")
    with io.BytesIO() as file:
        np.savez(file, **weights)
        Path(output).write_bytes(file.getvalue())
    return {"bytes": len(content), "encode": encode, "decode": decode, "peak_mb": peak_mb()}


@contextmanager
def without_torchvision_operators() -> Iterator[None]:
    """Let NNCodec import torchvision beside a CPU build of torch, which lacks the operators torchvision describes."""
    register = torch.library.register_fake

    def skipping(name: Any, *args: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return register(name, *args, **options)

    torch.library.register_fake = skipping
    try:
        yield
    finally:
        torch.library.register_fake = register


def timed(task: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return median seconds of processor time, which others on the machine change least, and the last result."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        result = task()
        seconds.append(time.process_time() - start)
    return sorted(seconds)[len(seconds) // 2], result


if __name__ == "__main__":
    main()
