"""Storing on a GPU beside storing on the CPU: seconds, bytes, and what is left of the network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limits import OutOfTimeError, limited
from mess import models
from mess.data.workers import usable_cores
from mess.scheme.learned.inputs import natural_noise
from mess.storing import compress

LIMIT_S = 40.0  # for one file; the CPU may take longer than there is time


def beside_the_cpu(
    networks: dict[str, tuple[nn.Module, Tensor]], cuda: bool, left: Callable[[], float], folder: Path
) -> dict[str, Any]:
    """Return figures of each network on the GPU, twice (the first time CUDA's libraries start), and on the CPU.

    Args:
        networks: by name, with what they are looked at with.
        left: seconds that may be spent.
    """
    rows: dict[str, Any] = {"cores": usable_cores()}
    ways = [("cuda, first", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")] if cuda else [("cpu", "cpu")]
    for name, (model, inputs) in networks.items():
        for way, device in ways:
            try:
                with limited(min(LIMIT_S, left())):
                    rows[f"{name}, {way}"] = _stored(model, inputs, device, folder / "stored.mess")
            except OutOfTimeError as error:
                rows[f"{name}, {way}"] = str(error)
    return rows


def _stored(model: nn.Module, inputs: Tensor, device: str, path: Path) -> dict[str, float]:
    start = time.perf_counter()
    report = compress(model, path, "v4", inputs, verify=False, device=device)
    seconds = time.perf_counter() - start
    assert report.look is not None
    return {
        "seconds": round(seconds, 2), "bytes": report.bytes, "divergence": float(f"{report.look.divergence:.3g}"),
        "agreement": round(report.look.agreement or 0.0, 2),
    }  # fmt: skip


@torch.no_grad()
def imagenet_network(side: int, count: int) -> tuple[nn.Module, Tensor]:
    """Return a MobileNetV2 of random weights, its BatchNorm measured, and images for it."""
    torch.manual_seed(0)
    model, images = models.build(models.resolve("mobilenetv2", "imagenet")), natural_noise(count, side)
    for _ in range(10):
        model.train()(images[:8])
    return model.eval(), images
