"""Version 4: every layer as sums of learned references, Σ_t q_t·R_t a unit, with integers q_t chosen by what they cost.

::

    inputs ─ sensitivity ─► g ─┐
    inputs ─ moments ─► H, C ──┼─ rounding ─► q ─ distilling ─► q, BatchNorm ─► Learned
    weights ─ basis ─► R ──────┘      (layer by layer, each on what the layers before it have become)

`layers` says what a layer is, `basis` finds the references (the eigen-kernels of all kernels of a size),
`sensitivity` says how much an output channel matters, `moments` what a layer sees; `rounding` picks integers by
distortion plus λ times bits, `distilling` lets them settle together through the decoder at `prices` like the coder's,
`storing` joins these, and `inputs` makes pictures where none are given. `retraining` does the same on a whole dataset.
"""

from mess.scheme.learned.basis import basis_step
from mess.scheme.learned.inputs import gather_inputs, synthetic_inputs
from mess.scheme.learned.retraining import Priced, resumed_start
from mess.scheme.learned.storing import Learned, LearnedLayer, LearnOptions, learn, rebuild_layer, trimmed

__all__ = [
    "LearnOptions",
    "Learned",
    "LearnedLayer",
    "Priced",
    "basis_step",
    "gather_inputs",
    "learn",
    "rebuild_layer",
    "resumed_start",
    "synthetic_inputs",
    "trimmed",
]
