"""Weights to a `.mess` file and back: joins the scheme (tensors) with the codec (bytes).

Read `compress.py` first: it is the whole way. `network` says what is to be stored, `matched` (v1 … v3a) and `learned`
(v4, with `rate` to find how coarsely) code the weights, `entries` adds what is left, `load` reads everything back.
"""

from mess.storing.compress import SizeReport, compress, dumps, store, to_stored
from mess.storing.entries import complete
from mess.storing.learned import coded, decoded
from mess.storing.load import (
    load,
    load_into,
    load_state_dict,
    loads,
    read_references,
    read_with_description,
    to_tensors,
)
from mess.storing.network import identify
from mess.storing.options import Request, StoreOptions

__all__ = [
    "Request",
    "SizeReport",
    "StoreOptions",
    "coded",
    "complete",
    "compress",
    "decoded",
    "dumps",
    "identify",
    "load",
    "load_into",
    "load_state_dict",
    "loads",
    "read_references",
    "read_with_description",
    "store",
    "to_stored",
    "to_tensors",
]
