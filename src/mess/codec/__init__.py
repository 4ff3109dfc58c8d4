"""Matches to bytes and back: the `.mess` file, as docs/FORMAT.md specifies it. NumPy, no torch.

::

    StoredModel ─ listing, manifest ─► JSON, zstd ─┐
                └ streams ─ tables, ans ─► words ──┴─ container ─► X.mess

`numbers` and `quantize` are what goes in, `model` the form in memory, `reconstruct` what comes out, `info` what it
costs.
"""

from mess.codec.info import FileInfo, TensorInfo, bits_per_weight, inspect_file
from mess.codec.model import (
    BATCH_NORM_PARTS,
    BatchNorm,
    Codebook,
    Entry,
    Expanded,
    Layout,
    Matched,
    Plain,
    StoredModel,
    Tied,
)
from mess.codec.model_file import LARGEST_MODEL, encode_model, read_model, write_model
from mess.codec.numbers import Numbers
from mess.codec.quantize import as_numbers, choose_step, dequantize, quantize
from mess.codec.reconstruct import reconstruct, references

__all__ = [
    "BATCH_NORM_PARTS",
    "LARGEST_MODEL",
    "BatchNorm",
    "Codebook",
    "Entry",
    "Expanded",
    "FileInfo",
    "Layout",
    "Matched",
    "Numbers",
    "Plain",
    "StoredModel",
    "TensorInfo",
    "Tied",
    "as_numbers",
    "bits_per_weight",
    "choose_step",
    "dequantize",
    "encode_model",
    "inspect_file",
    "quantize",
    "read_model",
    "reconstruct",
    "references",
    "write_model",
]
