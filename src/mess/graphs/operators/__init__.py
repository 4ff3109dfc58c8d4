"""What ONNX's operators do, in torch, so that a network which comes as a graph can be run and differentiated.

Each is a function of the node's attributes and its inputs (None where one is left out). Attributes that have become
inputs in later opsets are looked for in both places. All floats are float32: a network is looked at, not served.
`OPERATORS` has them all by name; what is not in it is not run, and a network that needs it is stored without a look.
"""

from __future__ import annotations

from mess.graphs.operators.arithmetic import ARITHMETIC
from mess.graphs.operators.arrays import ARRAYS
from mess.graphs.operators.layers import LAYERS
from mess.graphs.operators.recurrent import RECURRENT
from mess.graphs.operators.resizing import RESIZING
from mess.graphs.operators.table import Attributes, Operator, UnknownError

OPERATORS: dict[str, Operator] = {**ARITHMETIC, **ARRAYS, **LAYERS, **RECURRENT, **RESIZING}

__all__ = ["OPERATORS", "Attributes", "Operator", "UnknownError"]
