"""Version 4: every layer as sums of learned references, Σ_t q_t·R_t a unit, with q_t as coarse as the answers bear.

::

    inputs ─ sensitivity ─► g ─┐
    inputs ─ moments ─► H, C ──┼─ rounding ─► q, R, BatchNorm ─► Learned
    weights ─ basis ─► R ──────┘      (layer by layer, each on what the layers before it have become)

`layers` says what a layer is, `basis` finds the references (the eigen-kernels of all kernels of a size),
`sensitivity` says how much an output channel matters, `moments` what a layer sees; `rounding` picks integers, many of
them by trellises (`viterbi`), and makes up for each error; `learn` joins these, `inputs` makes images where none are
given. `training` goes on from there on a whole dataset: through the decoder, at the prices of a `rate_model` like the
coder's.
"""

from mess.scheme.learned.basis import basis_step as basis_step
from mess.scheme.learned.blind import round_blind as round_blind
from mess.scheme.learned.inputs import gather_inputs as gather_inputs
from mess.scheme.learned.inputs import synthetic_inputs as synthetic_inputs
from mess.scheme.learned.layerwise import StageProgress as StageProgress
from mess.scheme.learned.layerwise import device_of as device_of
from mess.scheme.learned.layerwise import no_progress as no_progress
from mess.scheme.learned.layerwise import split_batches as split_batches
from mess.scheme.learned.learn import Learned as Learned
from mess.scheme.learned.learn import LearnedLayer as LearnedLayer
from mess.scheme.learned.learn import LearnOptions as LearnOptions
from mess.scheme.learned.learn import divergence_at as divergence_at
from mess.scheme.learned.learn import learn as learn
from mess.scheme.learned.learn import rebuild_layer as rebuild_layer
from mess.scheme.learned.memory import give_back as give_back
from mess.scheme.learned.outputs import check_alike as check_alike
from mess.scheme.learned.outputs import known_outputs as known_outputs
from mess.scheme.learned.outputs import mixtures as mixtures
from mess.scheme.learned.outputs import tensors as tensors
from mess.scheme.learned.training import RateTraining as RateTraining
from mess.scheme.learned.training import resumed_start as resumed_start
