"""Matching beside chunked broadcasting and the bare GEMM, in one run; and WideResNet-28-10 as a whole.

    python benchmarks/matching.py

Weights are as the networks are initialised (seed 0); `--weights FILE` takes a trained ResNet-56's instead. Writes
docs/results/matching.json, of which results.py makes a page.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import torch
from torch import Tensor

from common import alternating, described, in_a_process, median, setting, write_rows
from mess import create_model
from mess.foreign.weights_file import load_weights
from mess.scheme import get_scheme, match, match_tensor, plan

CHUNKS = (512, 4096, 16384)  # units a chunk of broadcasting; 512 is the fastest of the powers of two
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a trained ResNet-56")
    args = parser.parse_args()
    large = in_a_process(whole_network)
    kind = "of a trained network" if args.weights else "at initialisation"
    row = {**compared(*units_and_references(args.weights)), **large, **setting(), "weights": kind}
    write_rows("matching", row)
    print(row)


def units_and_references(weights: str | None) -> tuple[Tensor, Tensor]:
    """Return the units and references of ResNet-56 under v2a, in one tensor each."""
    torch.manual_seed(0)
    model = create_model("resnet", layers=56)
    if weights:
        model.load_state_dict(load_weights(weights)[0], strict=False)
    (group,) = plan(model, get_scheme("v2a")).groups
    state = model.state_dict()
    refs_KU = group.source.reference_units(state[group.source.name])
    return torch.cat([state[target.name].reshape(-1, refs_KU.shape[1]) for target in group.targets]), refs_KU


def compared(units_NU: Tensor, refs_KU: Tensor) -> dict[str, Any]:
    """Return seconds of each way, their agreement, and how many pairs a bound by L2 distances would leave."""
    seconds = alternating(
        {
            "gemm": lambda: units_NU @ refs_KU.T,
            "ours": lambda: match(units_NU, refs_KU),
            **{f"broadcast {n}": lambda n=n: broadcast(units_NU, refs_KU, n) for n in CHUNKS},
        },
        ROUNDS,
    )
    ours = match(units_NU, refs_KU)
    theirs_N = broadcast(units_NU, refs_KU, CHUNKS[0])
    return {
        "units": len(units_NU),
        "references": len(refs_KU),
        "seconds": {name: round(median(values), 5) for name, values in seconds.items()},
        "other index": int((ours.index_N != theirs_N).sum()),
        "pairs left by the bound": round(survivors(units_NU, refs_KU), 3),
    }


def broadcast(units_NU: Tensor, refs_KU: Tensor, chunk: int) -> Tensor:
    """Return the best reference of each unit by the formula, on (chunk, K, U) tensors in float32."""
    centred_KU = refs_KU - refs_KU.mean(1, keepdim=True)
    square_K = centred_KU.square().sum(1)
    index = []
    for units_BU in units_NU.split(chunk):
        means_B = units_BU.mean(1, keepdim=True)
        alpha_BK = (units_BU - means_B) @ centred_KU.T / square_K
        beta_BK = means_B - alpha_BK * refs_KU.mean(1)
        fitted_BKU = alpha_BK[:, :, None] * refs_KU + beta_BK[:, :, None]
        index.append((fitted_BKU - units_BU[:, None]).abs().sum(2).argmin(1))
    return torch.cat(index)


def survivors(units_NU: Tensor, refs_KU: Tensor) -> float:
    """Return the share of pairs with √2·‖ρ‖₂ no greater than the L1 distance of the best pair in L2."""
    units_NU = units_NU - units_NU.mean(1, keepdim=True)
    refs_KU = refs_KU - refs_KU.mean(1, keepdim=True)
    refs_KU = refs_KU / refs_KU.norm(dim=1, keepdim=True)
    left = 0
    for units_BU in units_NU.split(4096):
        products_BK = units_BU @ refs_KU.T
        best_B = products_BK.abs().argmax(1)
        residual_BU = units_BU - products_BK.gather(1, best_B[:, None]) * refs_KU[best_B]
        squares_BK = units_BU.square().sum(1, keepdim=True) - products_BK.square()
        left += int((2 * squares_BK <= residual_BU.abs().sum(1, keepdim=True).square()).sum())
    return left / (len(units_NU) * len(refs_KU))


def whole_network() -> dict[str, Any]:
    """Match WideResNet-28-10 under v2a; return seconds and the memory it took beyond the weights."""
    torch.manual_seed(0)
    weights = create_model("wideresnet", layers=28, width_mult=10).state_dict()
    (group,) = plan(weights, get_scheme("v2a")).groups
    refs_KU = group.source.reference_units(weights[group.source.name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    matches = [match_tensor(weights[target.name], target, refs_KU, "affine") for target in group.targets]
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "large": {
            "units": sum(len(m.index_N) for m in matches),
            "references": len(refs_KU),
            "seconds": round(seconds, 2),
            "MB above the weights": round((after - before) / 1024),
        }
    }


def page(row: dict[str, Any]) -> list[str]:
    """Return the results page."""
    seconds, large = row["seconds"], row["large"]
    lines = [
        "# Matching",
        "",
        f"`python benchmarks/matching.py`: {row['units']:,} units × {row['references']} references, as ResNet-56 has",
        f"them under v2a, weights {row['weights']}; medians of {ROUNDS} rounds, taken in turns.",
        described(row),
        "",
        "| what | seconds | × the GEMM |",
        "|---|---:|---:|",
    ]
    names = {"gemm": "the bare GEMM, units × references", "ours": "`mess.scheme.match`"}
    names |= {f"broadcast {n}": f"broadcasting, {n:,} units at a time" for n in CHUNKS}
    for name, text in names.items():
        lines.append(f"| {text} | {seconds[name]:.3f} | {seconds[name] / seconds['gemm']:.1f} |")
    slow = [seconds[f"broadcast {n}"] / seconds["ours"] for n in CHUNKS]
    return [
        *lines,
        "",
        f"`match` is {min(slow):.1f} to {max(slow):.0f} times as fast as broadcasting, by the size of its chunks;",
        f"{row['other index']} of the units have another index there (rounding of float32, either way).",
        f"Ruling pairs out by their L2 distance first leaves {100 * row['pairs left by the bound']:.0f} % of them,",
        "scattered; looking these up one by one costs more than summing up all of them in tiles that stay in cache.",
        "",
        f"WideResNet-28-10 under v2a, {large['units']:,} units × {large['references']:,} references, all layers:",
        f"{large['seconds']} s, with {large['MB above the weights']} MB above the weights.",
    ]


if __name__ == "__main__":
    main()
