"""What each ingredient of version 4 is worth: without it, how many bytes for the same distance from the float network?

    python benchmarks/ablation.py --datapath ../data --weights resnet20.th

The distance is the Kullback-Leibler divergence of predictions on all 10,000 test images, which is far less noisy than
accuracy. Distilling takes most of the time and makes up for some of what the rounding before it did: it is switched
off alone, and the other ingredients one at a time beside the method without it. Every variant is stored at several
rates; its bytes at the distance that the method has at its default rate are read off between them (both as logarithms).
Rows that docs/results/ablation.json has already are not measured again. Writes docs/results/ablation.md too. The
network is one for CIFAR-10, trained with ImageNet's mean and std.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

import mess
from common import described, read_rows, setting, write_page, write_rows
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD
from mess.devices import open_devices
from mess.recipes import DataChoice, calibration_inputs
from mess.recipes.sources import open_batches
from mess.scheme.learned.moments import shrink_
from mess.scheme.learned.sensitivity import output_sensitivity
from mess.storing import compress
from mess.weights_file import load_weights

RATES = (0.004, 0.008, 0.016)  # nats
DEFAULT = RATES[1]
WHOLE, BASE = "everything", "no distilling"
LEARNED = "mess.scheme.learned.learn"
DISTILLING = 200  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    parser.add_argument("--weights", required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    data = DataChoice("cifar10", args.datapath, 0, IMAGENET_MEAN, IMAGENET_STD)
    weights = load_weights(args.weights)[0]
    rows = read_rows("ablation")
    inputs, answers = calibration_inputs(data), Answers(data)
    for variant in args.variants:
        for nats in RATES:
            key = f"{variant}|{nats:g}"
            if key not in rows:
                rows[key] = {**measured(weights, inputs, answers, variant, nats), **setting()}
                write_rows("ablation", rows)
                print(key, rows[key], flush=True)
    write_page("ablation", page(rows))


class Answers:
    """The test images, and what the float network says about them."""

    def __init__(self, data: DataChoice) -> None:
        batches = open_batches(data, open_devices(False, ()), train=False, batch_size=500)
        self.batches = list(batches.epoch(0))
        self.wanted: list[Tensor] | None = None

    @torch.inference_mode()
    def compared(self, original: nn.Module, stored: nn.Module) -> tuple[float, float]:
        """Return the mean divergence in nats, and top-1 in percent."""
        if self.wanted is None:
            self.wanted = [original.eval()(images).log_softmax(1) for images, _ in self.batches]
        far = right = 0.0
        for (images, labels), wanted in zip(self.batches, self.wanted, strict=True):
            said = stored(images).log_softmax(1)
            far += float((wanted.exp() * (wanted - said)).sum())
            right += float((said.argmax(1) == labels).sum())
        count = sum(len(labels) for _, labels in self.batches)
        return far / count, 100 * right / count


def measured(weights: dict[str, Tensor], inputs: Tensor, answers: Answers, variant: str, nats: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.mess"
        steps = DISTILLING if variant == WHOLE else 0
        with VARIANTS[variant]:
            compress(weights, file, "v4", inputs, divergence=nats, steps=steps)
            stored = mess.load(file).eval()
        original = copy.deepcopy(stored)
        original.load_state_dict(weights, strict=False)
        far, top1 = answers.compared(original, stored)
        return {"bytes": file.stat().st_size, "nats": far, "top1": top1}


def identity_bases(layers: list[Any]) -> dict[Any, Tensor]:
    """Kernels stay as they are: the references are single pixels."""
    return {layer.basis: torch.eye(layer.terms, dtype=torch.float64) for layer in layers if layer.basis is not None}


def no_feedback(second_moment_Gnn: Tensor) -> Tensor:
    """A number's error is weighted, and not made up for by others."""
    diagonal = second_moment_Gnn.diagonal(dim1=1, dim2=2)
    floor = 1e-3 * diagonal.mean(1, keepdim=True).clamp_min(1e-12)
    return torch.diag_embed((diagonal + floor).rsqrt())


def unmoved_target(moments: Any, share: float, weight_GRn: Tensor) -> None:
    """What a layer is to answer follows from its own inputs: the target is its float weights."""
    shrink_(moments, share, weight_GRn)
    moments.cross_GnR = moments.own_Gnn @ weight_GRn.mT


def equal_channels(*given: Any, **more: Any) -> Any:
    """Each layer's output channels count alike."""
    found = output_sensitivity(*given, **more)
    return replace(found, channels={n: torch.full_like(g, float(g.mean())) for n, g in found.channels.items()})


def free_bits(integers_GRIT: Tensor, largest: int) -> Tensor:
    """Every integer costs the same: plain rounding to the nearest."""
    return torch.zeros(integers_GRIT.shape[-1], 2 * largest + 1, dtype=torch.float64)


def one_size(seen: Any) -> np.ndarray:
    """Rows and columns say nothing: a table a term."""
    from mess.codec import contexts

    return np.full((len(seen._sum_TN), seen.rows + seen.columns), -contexts.LOWEST)


VARIANTS: dict[str, AbstractContextManager[Any]] = {  # in which one function of the library is another
    WHOLE: nullcontext(),
    BASE: nullcontext(),
    "no basis: pixels as references": mock.patch(f"{LEARNED}.shared_bases", identity_bases),
    "no error feedback": mock.patch(f"{LEARNED}.inverse_cholesky_", no_feedback),
    "no target beside the float network": mock.patch(f"{LEARNED}.shrink_", unmoved_target),
    "channels count alike": mock.patch(f"{LEARNED}.output_sensitivity", equal_channels),
    "no price on bits in rounding": mock.patch("mess.scheme.learned.rate_rounding.code_lengths", free_bits),
    "no contexts: one table a level of terms": mock.patch("mess.codec.contexts.ContextState._octaves", one_size),
}


def page(rows: dict[str, Any]) -> list[str]:
    """Return the results page."""
    names = [name for name in VARIANTS if all(f"{name}|{nats:g}" in rows for nats in RATES)]
    lines = [
        "# What each ingredient of version 4 is worth",
        "",
        "`python benchmarks/ablation.py`, its docstring says how: one ingredient switched off at a time, calibrated on",
        "1,024 training images; distances are nats of divergence from the float network's predictions on all 10,000",
        "test images, bytes at equal distance are read off between three rates. n = 1, seed 0.",
        described(rows[f"{WHOLE}|{DEFAULT:g}"]),
    ]
    for against, others in ((WHOLE, names[:2]), (BASE, names[1:])):
        level = rows[f"{against}|{DEFAULT:g}"]["nats"]
        lines += [
            "",
            f"| at {level:.4f} nats | bytes | more by | at the three rates: bytes → nats (top-1 %) |",
            "|---|---:|---:|---|",
        ]
        for name in others:
            size = at(rows, name, level)
            points = [rows[f"{name}|{nats:g}"] for nats in RATES]
            each = "; ".join(f"{p['bytes']:,} → {p['nats']:.4f} ({p['top1']:.2f})" for p in points)
            lines.append(f"| {name} | {size:,.0f} | {100 * (size / at(rows, against, level) - 1):+.1f} % | {each} |")
    gain = np.mean([rows[f"{WHOLE}|{nats:g}"]["top1"] - rows[f"{BASE}|{nats:g}"]["top1"] for nats in RATES])
    return [
        *lines,
        "",
        f"Distilling is worth {gain:+.2f} points of top-1 in the mean of three rates; divergence shows little of it.",
    ]


def at(rows: dict[str, Any], name: str, level: float) -> float:
    """Return the bytes of a variant at a distance, on a straight line through the logarithms of its points."""
    points = [rows[f"{name}|{nats:g}"] for nats in RATES]
    slope, start = np.polyfit([math.log(p["nats"]) for p in points], [math.log(p["bytes"]) for p in points], 1)
    return math.exp(start + slope * math.log(level))


if __name__ == "__main__":
    main()
