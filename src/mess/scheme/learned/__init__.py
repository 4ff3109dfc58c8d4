"""Version 4: every layer as sums of learned references, Σ_t q_t·R_t a unit, with integers q_t chosen by what they cost.

::

    inputs ─ sensitivity ─► g ─┐
    inputs ─ moments ─► H, C ──┼─ rounding ─► q ─ distilling ─► q, BatchNorm ─► Learned
    weights ─ basis ─► R ──────┘      (layer by layer, each on what the layers before it have become)

`layers` says what a layer is, `basis` finds the references (the eigen-kernels of all kernels of a size),
`sensitivity` says how much an output channel matters, `moments` what a layer sees; `rate_rounding` picks integers by
distortion plus λ times bits, `distilling` lets them settle together through the decoder at a `rate_model` like the
coder's; `learn` joins these, `inputs` makes images where none are given. `training` does the same on a whole dataset.
"""

from mess.scheme.learned.basis import basis_step
from mess.scheme.learned.blind import round_blind
from mess.scheme.learned.inputs import gather_inputs, synthetic_inputs
from mess.scheme.learned.layerwise import StageProgress, device_of, no_progress, split_batches
from mess.scheme.learned.learn import Learned, LearnedLayer, LearnOptions, divergence_at, learn, rebuild_layer
from mess.scheme.learned.memory import give_back
from mess.scheme.learned.outputs import known_outputs, mixtures, tensors
from mess.scheme.learned.training import RateTraining, resumed_start

__all__ = [
    "LearnOptions",
    "Learned",
    "LearnedLayer",
    "RateTraining",
    "StageProgress",
    "basis_step",
    "device_of",
    "divergence_at",
    "gather_inputs",
    "give_back",
    "known_outputs",
    "learn",
    "mixtures",
    "no_progress",
    "rebuild_layer",
    "resumed_start",
    "round_blind",
    "split_batches",
    "synthetic_inputs",
    "tensors",
]
