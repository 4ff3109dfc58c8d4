"""The ways to train and to test, each put together from data, models, training and the scheme.

`Job` says what a run is asked to do, `run_job` does it, `score_network` tests any file. Plain training, training with
the scheme (-N), retraining (-T) and rounded kernels (-Q) differ only in `hooks`; `teacher` is what version 4 follows.
"""

from mess.recipes.job import DataChoice, DeviceChoice, Job, RateChoice, SchemeChoice, run_folder
from mess.recipes.resuming import recipe_to_resume
from mess.recipes.run import RunResult, Tested, run_job, score_network, score_stored
from mess.recipes.sources import calibration_batches, calibration_inputs

__all__ = [
    "DataChoice",
    "DeviceChoice",
    "Job",
    "RateChoice",
    "RunResult",
    "SchemeChoice",
    "Tested",
    "calibration_batches",
    "calibration_inputs",
    "recipe_to_resume",
    "run_folder",
    "run_job",
    "score_network",
    "score_stored",
]
