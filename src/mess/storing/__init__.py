"""Weights to a `.mess` file and back: joins the scheme (tensors) with the codec (bytes).

Read `compress.py` first: it is the whole way. `network` says what is to be stored, `matched` (v1 … v3a) and `learned`
(v4, with `rate` to find how coarsely) code the weights, `entries` adds what is left, `load` reads everything back.
"""

from mess.storing.compress import SizeReport as SizeReport
from mess.storing.compress import compress as compress
from mess.storing.compress import dumps as dumps
from mess.storing.compress import store as store
from mess.storing.compress import to_stored as to_stored
from mess.storing.entries import complete as complete
from mess.storing.learned import coded as coded
from mess.storing.learned import decoded as decoded
from mess.storing.load import load as load
from mess.storing.load import load_into as load_into
from mess.storing.load import load_state_dict as load_state_dict
from mess.storing.load import loads as loads
from mess.storing.load import read_references as read_references
from mess.storing.load import read_with_description as read_with_description
from mess.storing.load import to_tensors as to_tensors
from mess.storing.network import identify as identify
from mess.storing.options import Request as Request
from mess.storing.options import StoreOptions as StoreOptions
