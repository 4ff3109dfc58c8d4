"""Out of a `.mess` file, into forms that run elsewhere: one file a format, chosen by the ending of the output.

::

    X.mess ──► weights     .pth, .safetensors    the state dict
           ├─► onnx_model  .onnx                 networks of the zoo, compared with onnxruntime
           ├─► c_program   .c                    the file as a C array, with its decoder, mess.h
           └─► plain_file  .mess                 the file again, for readers that know neither zstd nor the zoo

Formats know storing, the codec and the zoo, nothing of training.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mess.errors import OptionError

__all__ = ["FORMATS", "Exported", "export"]

# ending → the module here whose `write(path, output)` makes such a file and returns what to say of it
FORMATS = {
    ".pth": "weights", ".safetensors": "weights", ".onnx": "onnx_model", ".c": "c_program", ".mess": "plain_file",
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """A file that was written: `bytes` is its size, `notes` are sentences a person should read."""

    path: Path
    bytes: int
    notes: tuple[str, ...]


def export(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> Exported:
    """Write what a `.mess` file holds in the form that `output`'s ending names, in one step.

    Raises:
        OptionError: another ending, or a format whose packages are not installed.
        FormatError: `path` breaks docs/FORMAT.md.
        WeightsError: a form only networks of the zoo have, or outputs that are not the network's.
    """
    output = Path(output)
    if output.suffix not in FORMATS:
        raise OptionError("--output", f"a name that ends in {', '.join(FORMATS)}", output)
    notes = import_module(f"mess.export.{FORMATS[output.suffix]}").write(path, output)
    return Exported(output, output.stat().st_size, notes)
