"""The storing scheme, in tensors: which kernels are references, and what stands for all the others.

`versions` is the table of schemes. `matched` (v1 … v3a) takes references from a layer of the network, `learned` (v4)
learns them over all layers; in each, `training` trains through what is stored. `ties` says which tensors are one.
"""

from mess.scheme.matched.geometry import Geometry
from mess.scheme.matched.matching import (
    Matches,
    fit_for_index,
    match,
    match_tensor,
    rebuild,
    rebuild_tensor,
    refit_offset,
)
from mess.scheme.matched.penalties import nuclear_penalty, pearson_penalty, reference_penalty
from mess.scheme.matched.plan import Group, Plan, plan
from mess.scheme.matched.training import ReferenceTraining, project_
from mess.scheme.parametrized import Parametrized, plain_state_dict
from mess.scheme.rounding import RoundedTraining, round_to_bits
from mess.scheme.ties import check_weights, find_ties
from mess.scheme.versions import REFERENCE_VERSIONS, SCHEMES, Scheme, file_tag, get_scheme

__all__ = [
    "REFERENCE_VERSIONS",
    "SCHEMES",
    "Geometry",
    "Group",
    "Matches",
    "Parametrized",
    "Plan",
    "ReferenceTraining",
    "RoundedTraining",
    "Scheme",
    "check_weights",
    "file_tag",
    "find_ties",
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
    "reference_penalty",
    "refit_offset",
    "round_to_bits",
]
