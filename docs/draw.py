"""Draw the pictures of GUIDE.md from real weights: python docs/draw.py resnet20.th (public, with ImageNet's mean, std).

`kernel.png` is one kernel, its reference, α and β; `versions.png` shows the same kernels as each version stores them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

import mess
from mess.training import load_weights

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

HERE = Path(__file__).parent / "images"
FIRST, LAYER = "conv1.weight", "layer2.1.conv1.weight"
SHARES = (0.4, 0.55, 0.7, 0.85, 0.95)  # which kernels of LAYER are shown: larger than this share of them
FITTING = 259  # a kernel of LAYER that its reference fits well: what is lost of others, versions.png shows
VERSIONS: dict[str, dict] = {
    "v1": {}, "v2": {}, "v2a": {}, "v2q": {"quant_bits": 4}, "v3": {"bind": 2}, "v3a": {"bind": 2}, "v4": {},
}  # fmt: skip
FEW = {"scale_bits": 8, "offset_bits": 8, "rest_bits": 16}
INPUT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    weights = load_weights(parser.parse_args().weights)[0]
    kernels = weights[LAYER].numpy().reshape(-1, 3, 3)
    draw_kernel(kernels, weights[FIRST].numpy().reshape(-1, 9))
    draw_versions(weights, kernels)


def draw_kernel(kernels: np.ndarray, refs_KU: np.ndarray) -> None:
    """Draw a kernel = α · reference + β, as v2 fits it."""
    w_U = kernels[FITTING].reshape(-1)
    centred_KU = refs_KU - refs_KU.mean(1, keepdims=True)
    scale_K = centred_KU @ w_U / (centred_KU**2).sum(1)
    offset_K = w_U.mean() - scale_K * refs_KU.mean(1)
    k = int(np.abs(scale_K[:, None] * refs_KU + offset_K[:, None] - w_U).sum(1).argmin())
    stored_U = scale_K[k] * refs_KU[k] + offset_K[k]
    figure, places = pyplot.subplots(1, 4, figsize=(9, 3.2), layout="constrained")
    most = np.abs(w_U).max()
    tiles = [
        (w_U, most, "the kernel, 9 numbers"),
        (refs_KU[k], np.abs(refs_KU[k]).max(), f"reference k = {k} of {len(refs_KU)}"),
        (stored_U, most, "what the file gives back"),
        (w_U - stored_U, most, "what is lost"),
    ]
    for axes, (numbers_U, limit, title) in zip(places, tiles, strict=True):
        tile(axes, numbers_U.reshape(3, 3), float(limit), numbers=True)
        axes.set_title(title, fontsize=10)
    places[1].set_xlabel(f"× α = {scale_K[k]:.3f}\n+ β = {offset_K[k]:.4f}", fontsize=10)
    places[2].set_xlabel("α · reference + β", fontsize=10)
    save(figure, "kernel.png")


def draw_versions(weights: dict, kernels: np.ndarray) -> None:
    """Draw some kernels as they are, and as each version gives them back, with what the whole file weighs."""
    by_size = np.argsort(np.linalg.norm(kernels.reshape(-1, 9), axis=1))
    shown = [int(by_size[int(share * len(kernels))]) for share in SHARES]
    figure, places = pyplot.subplots(
        len(shown), 1 + len(VERSIONS), figsize=(9, 6.4), layout="constrained", gridspec_kw={"hspace": 0.02}
    )
    count = sum(tensor.numel() for tensor in weights.values())
    column(places[:, 0], kernels[shown], kernels[shown], f"float\n32 bits\n{4 * count / 1000:.0f} KB")
    with tempfile.TemporaryDirectory() as folder:
        for place, (version, options) in enumerate(VERSIONS.items(), start=1):
            file = Path(folder) / f"{version}.mess"
            few = {} if version == "v4" else FEW
            report = mess.compress(weights, file, scheme=version, about=INPUT, **options, **few)  # type: ignore[arg-type]
            stored = mess.load_state_dict(file, names=[LAYER])[LAYER].numpy().reshape(-1, 3, 3)
            lost = np.linalg.norm(stored - kernels) / np.linalg.norm(kernels)
            heading = f"{version}\n{8 * report.bytes / count:.1f} bits\n{report.bytes / 1000:.0f} KB\nerror {lost:.0%}"
            column(places[:, place], stored[shown], kernels[shown], heading)
    save(figure, "versions.png")


def column(places: np.ndarray, kernels: np.ndarray, originals: np.ndarray, title: str) -> None:
    """Draw kernels one below the other, each in its original's range."""
    for axes, kernel, original in zip(places, kernels, originals, strict=True):
        tile(axes, kernel, float(np.abs(original).max()))
    places[0].set_title(title, fontsize=9)


def tile(axes: Axes, kernel: np.ndarray, limit: float, *, numbers: bool = False) -> None:
    """Draw one kernel: red above 0, blue below."""
    axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#999999")
    for (row, col), value in np.ndenumerate(kernel) if numbers else ():
        dark = abs(value) > 0.65 * limit
        axes.text(col, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color="white" if dark else "black")


def save(figure: pyplot.Figure, name: str) -> None:
    """Write a PNG that is the same for the same weights."""
    HERE.mkdir(exist_ok=True)
    figure.savefig(HERE / name, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
