"""The storing scheme, in tensors: which kernels are references, and what stands for all the others.

`versions` is the table of schemes. `matched` (v1 … v3a) takes references from a layer of the network, `learned` (v4)
learns them over all layers; in each, `training` trains through what is stored. `ties` says which tensors are one.
"""

from mess.scheme.matched.geometry import Geometry as Geometry
from mess.scheme.matched.matching import Matches as Matches
from mess.scheme.matched.matching import match as match
from mess.scheme.matched.matching import match_tensor as match_tensor
from mess.scheme.matched.matching import rebuild as rebuild
from mess.scheme.matched.matching import rebuild_tensor as rebuild_tensor
from mess.scheme.matched.matching import refit_offset as refit_offset
from mess.scheme.matched.penalties import nuclear_penalty as nuclear_penalty
from mess.scheme.matched.penalties import pearson_penalty as pearson_penalty
from mess.scheme.matched.penalties import reference_penalty as reference_penalty
from mess.scheme.matched.plan import plan as plan
from mess.scheme.matched.training import ReferenceTraining as ReferenceTraining
from mess.scheme.matched.training import project_ as project_
from mess.scheme.parametrized import Parametrized as Parametrized
from mess.scheme.parametrized import plain_state_dict as plain_state_dict
from mess.scheme.rounding import RoundedTraining as RoundedTraining
from mess.scheme.rounding import round_to_bits as round_to_bits
from mess.scheme.ties import check_weights as check_weights
from mess.scheme.ties import find_ties as find_ties
from mess.scheme.versions import REFERENCE_VERSIONS as REFERENCE_VERSIONS
from mess.scheme.versions import SCHEMES as SCHEMES
from mess.scheme.versions import Scheme as Scheme
from mess.scheme.versions import file_tag as file_tag
from mess.scheme.versions import get_scheme as get_scheme
