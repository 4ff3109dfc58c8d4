"""Reading `.mess` files beside NNCodec, safetensors and a copy in memory: processor time and weights a second.

    python benchmarks/decoding.py --weights resnet56.th [--file NAME=net.mess]...

Without `--file` the network is stored under v2a with 8 bits. Everything is measured on one thread: reading from the
file to float32 tensors in memory, and opening and inspecting a file. Writes docs/results/decoding.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import mess
from common import alternating, described, median, setting, write_rows
from mess.foreign.weights_file import load_weights
from mess.storing import Request, StoreOptions, load_state_dict, store
from peers import nncodec

ROUNDS = 15
QP = -24  # of NNCodec: about where it starts to lose accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="weights of a network of the zoo")
    parser.add_argument("--file", action="append", default=[], metavar="NAME=FILE", help="the same network, stored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = {n: t for n, t in load_weights(args.weights)[0].items() if not n.endswith("num_batches_tracked")}
    with tempfile.TemporaryDirectory() as folder:
        row = measured(weights, dict(text.split("=", 1) for text in args.file), Path(folder))
    row |= {"network": Path(args.weights).stem, **setting(), "threads": 1}
    write_rows("decoding", row)
    print(row)


def measured(weights: dict[str, torch.Tensor], files: dict[str, str], folder: Path) -> dict[str, Any]:
    stored = folder / "v2a.mess"
    store(weights, stored, Request(StoreOptions("v2a", scale_bits=8, offset_bits=8, rest_bits=16)))
    paths = {"v2a, 8 bits": str(stored), **files}
    plain = folder / "net.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, plain)
    tasks: dict[str, Any] = {
        "a copy in memory": lambda: [tensor.clone() for tensor in weights.values()],
        "safetensors": lambda: [tensor.clone() for tensor in load_file(plain).values()],
    }
    tasks |= {f"MESS {name}": lambda p=path: load_state_dict(p) for name, path in paths.items()}
    tasks |= {f"inspect {name}": lambda p=path: mess.inspect(p) for name, path in paths.items()}
    seconds = {name: median(values) for name, values in alternating(tasks, ROUNDS, time.process_time).items()}
    peer = nncodec(weights, QP)
    seconds["NNCodec"] = peer.decode
    sizes = {f"MESS {name}": Path(path).stat().st_size for name, path in paths.items()} | {"NNCodec": peer.bytes}
    sizes["safetensors"] = plain.stat().st_size
    return {"seconds": seconds, "bytes": sizes, "numbers": sum(t.numel() for t in weights.values())}


def page(row: dict[str, Any]) -> list[str]:
    """Return the results page."""
    seconds, numbers = row["seconds"], row["numbers"]
    lines = [
        "# Reading",
        "",
        f"`python benchmarks/decoding.py`: {row['network']}, {numbers:,} numbers, processor time on one thread;",
        f"medians of {ROUNDS} rounds, taken in turns (NNCodec: of 5 rounds in its own process, straight after). From",
        f"the file to float32 tensors; NNCodec at qp {QP}, from bytes in memory.",
        described(row),
        "",
        "| what | bytes | ms | million numbers/s | × NNCodec's rate |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in sorted((n for n in seconds if not n.startswith("inspect")), key=seconds.__getitem__):
        size = row["bytes"].get(name)
        cells = [name, f"{size:,}" if size else "–", f"{1e3 * seconds[name]:.1f}"]
        cells += [f"{numbers / seconds[name] / 1e6:.1f}", f"{seconds['NNCodec'] / seconds[name]:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    spent = [f"{1e3 * s:.1f} ms ({n.removeprefix('inspect ')})" for n, s in seconds.items() if n.startswith("inspect")]
    return [*lines, "", f"Opening and inspecting (`mess.inspect`, imports done): {', '.join(spent)}."]


if __name__ == "__main__":
    main()
