"""What is installed here and where things lie: for `mess info`, and for whoever reports what went wrong."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mess.codec import native
from mess.files import cache_home
from mess.version import __version__

PACKAGES = (
    "torch", "numpy", "constriction", "zstandard", "safetensors", "lightning-fabric", "rich", "matplotlib", "Pillow",
    "simplejpeg",
)  # fmt: skip
# extra -> what it brings, as in pyproject.toml
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "demo": ("scikit-learn",),
    "hub": ("huggingface_hub",),
    "imagenet": ("pyarrow", "scipy"),
    "onnx": ("onnx", "onnxruntime"),
    "tensorboard": ("tensorboard",),
    "timm": ("timm", "torchvision"),
}
DATASETS = {
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-binary", "cifar-100-python"),
    "imagenet": ("imagenet",),
}
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE", "MESS_CACHE", "MESS_READER", "OMP_NUM_THREADS",
    "XDG_CACHE_HOME",
)  # fmt: skip


def installation(datapath: Path) -> dict[str, Any]:
    """Return machine, versions, devices, reader, extras, folders and settings as plain JSON values.

    Args:
        datapath: where datasets are looked for.
    """
    return {
        "mess": {"version": __version__, "folder": str(Path(__file__).parent)},
        "machine": _machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "devices": _devices(),
        "reader": {"name": native.reader_name(), "library": str(native.library_path()) if native.library() else None},
        "extras": {extra: {name: version(name) for name in names} for extra, names in EXTRAS.items()},
        "folders": _folders(datapath),
        "settings": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def version(package: str) -> str | None:
    """Return the version of a package that is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    memory = None
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.processor() or platform.machine(),
        "cores": native.threads(),
        "memory_bytes": memory,
        "python": platform.python_version(),
        "executable": sys.executable,
    }


def _devices() -> dict[str, Any]:
    """Return what torch computes on; with "error" where it cannot be imported."""
    try:
        import torch

        from mess.devices import gpu_names
    except (ImportError, OSError) as error:
        return {"error": f"torch cannot be imported: {error}"}
    return {"cpu_threads": torch.get_num_threads(), "cuda": torch.version.cuda, "gpus": gpu_names()}


def _folders(datapath: Path) -> dict[str, Any]:
    from mess.fetch.weights import cache_folder

    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or cache_home() / "huggingface") / "hub"
    found = [name for name, folders in DATASETS.items() if any((datapath / folder).is_dir() for folder in folders)]
    places = {
        "public weights": cache_folder(),
        "reader in C": native.library_path().parent,
        "hub": hub,
        "data": datapath,
    }
    told: dict[str, Any] = {
        name: {"folder": str(Path(place).absolute()), "there": Path(place).is_dir()} for name, place in places.items()
    }
    told["data"]["datasets"] = found
    return told
