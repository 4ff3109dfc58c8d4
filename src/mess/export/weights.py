"""The state dict, as ``.safetensors`` or as a ``.pth`` that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save

from mess.files import atomic_write, atomic_writer
from mess.storing import load_state_dict


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file's weights; see `mess.export.export`."""
    weights = load_state_dict(path)
    if output.suffix == ".safetensors":
        atomic_write(output, save(weights))
    else:
        with atomic_writer(output) as file:
            torch.save(weights, file)
    return ()
