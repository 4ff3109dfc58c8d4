"""Matches to bytes and back: the `.mess` file, as docs/FORMAT.md specifies it. NumPy, no torch.

::

    StoredModel ─ contents, manifest ► JSON, zstd ─┐
                └ streams ─ tables, ans ─► words ──┴─ container ─► X.mess

`numbers` and `quantize` are what goes in, `model` the form in memory, `reconstruct` what comes out, `info` and `rows`
what it costs.
"""

from mess.arithmetic.levels import Levels as Levels
from mess.arithmetic.step_exponents import Exponents as Exponents
from mess.codec.info import inspect_file as inspect_file
from mess.codec.model import BATCH_NORM_PARTS as BATCH_NORM_PARTS
from mess.codec.model import BatchNorm as BatchNorm
from mess.codec.model import Codebook as Codebook
from mess.codec.model import Entry as Entry
from mess.codec.model import Expanded as Expanded
from mess.codec.model import Layout as Layout
from mess.codec.model import Matched as Matched
from mess.codec.model import Plain as Plain
from mess.codec.model import StoredModel as StoredModel
from mess.codec.model import Tied as Tied
from mess.codec.model_file import encode_model as encode_model
from mess.codec.model_file import read_model as read_model
from mess.codec.model_file import write_model as write_model
from mess.codec.numbers import NumberArray as NumberArray
from mess.codec.quantize import quantize as quantize
from mess.codec.quantize import quantize_numbers as quantize_numbers
from mess.codec.reconstruct import Tensor as Tensor
from mess.codec.reconstruct import reconstruct as reconstruct
from mess.codec.reconstruct import references as references
from mess.codec.rows import FileInfo as FileInfo
from mess.codec.rows import TensorInfo as TensorInfo
from mess.codec.rows import bits_per_weight as bits_per_weight
from mess.codec.tensors import read_tensors as read_tensors
