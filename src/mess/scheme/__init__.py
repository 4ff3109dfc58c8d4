"""The storing scheme, in tensors: which kernels are references, and what stands for all the others.

`versions` is the table of schemes, `geometry` how a tensor is cut into units, `kernels` which tensors take part,
`matching` the search for the best reference, `retraining` training through what is stored.
"""

from mess.scheme.geometry import Geometry
from mess.scheme.kernels import Group, Plan, check_weights, plan
from mess.scheme.matching import (
    Matches,
    fit_for_index,
    match,
    match_tensor,
    rebuild,
    rebuild_tensor,
    refit_offset,
)
from mess.scheme.parametrized import plain_state_dict
from mess.scheme.penalties import nuclear_penalty, pearson_penalty
from mess.scheme.retraining import Decoded, attach_rounding, project_
from mess.scheme.rounding import round_to_bits
from mess.scheme.versions import SCHEMES, Scheme, file_tag, get_scheme

__all__ = [
    "SCHEMES",
    "Decoded",
    "Geometry",
    "Group",
    "Matches",
    "Plan",
    "Scheme",
    "attach_rounding",
    "check_weights",
    "file_tag",
    "fit_for_index",
    "get_scheme",
    "match",
    "match_tensor",
    "nuclear_penalty",
    "pearson_penalty",
    "plain_state_dict",
    "plan",
    "project_",
    "rebuild",
    "rebuild_tensor",
    "refit_offset",
    "round_to_bits",
]
