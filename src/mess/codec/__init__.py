"""Matches to bytes and back: the `.mess` file, as docs/FORMAT.md specifies it. NumPy, no torch.

::

    StoredModel ─ contents, manifest ► JSON, zstd ─┐
                └ streams ─ tables, ans ─► words ──┴─ container ─► X.mess

`numbers` and `quantize` are what goes in, `model` the form in memory, `reconstruct` what comes out, `info` and `rows`
what it costs.
"""

from mess.codec.info import inspect_file
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
from mess.codec.numbers import NumberArray
from mess.codec.quantize import choose_step, dequantize, quantize, quantize_numbers
from mess.codec.reconstruct import Tensor, reconstruct, references
from mess.codec.rows import FileInfo, TensorInfo, bits_per_weight
from mess.codec.tensors import read_tensors
from mess.step_exponents import Exponents

__all__ = [
    "BATCH_NORM_PARTS",
    "LARGEST_MODEL",
    "BatchNorm",
    "Codebook",
    "Entry",
    "Expanded",
    "Exponents",
    "FileInfo",
    "Layout",
    "Matched",
    "NumberArray",
    "Plain",
    "StoredModel",
    "Tensor",
    "TensorInfo",
    "Tied",
    "bits_per_weight",
    "choose_step",
    "dequantize",
    "encode_model",
    "inspect_file",
    "quantize",
    "quantize_numbers",
    "read_model",
    "read_tensors",
    "reconstruct",
    "references",
    "write_model",
]
