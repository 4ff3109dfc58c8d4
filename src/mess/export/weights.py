"""The state dict, as ``.safetensors`` or as a ``.pth`` that ``torch.load(weights_only=True)`` reads."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save

from mess.errors import first_few
from mess.extra_state import states_in
from mess.files import atomic_write, atomic_writer
from mess.storing import load_state_dict
from mess.storing.load import read_description


def write(path: str | os.PathLike[str], output: Path) -> tuple[str, ...]:
    """Write a file's weights; see `mess.export.export`."""
    weights = load_state_dict(path)
    states = states_in(read_description(path)["scheme"])
    if output.suffix == ".safetensors":
        atomic_write(output, save(weights))
    else:
        with atomic_writer(output) as file:
            torch.save({**weights, **states}, file)
        return ()
    return (f"left out, as no tensor: {first_few(list(states))}",) if states else ()
