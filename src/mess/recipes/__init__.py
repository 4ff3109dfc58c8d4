"""The ways to train and to test, each put together from data, models, training and the scheme.

`Job` says what a run is asked to do, `run_job` does it, `score_network` tests any file. Plain training, training with
the scheme (-N), retraining (-T) and rounded kernels (-Q) differ only in the hooks of `with_scheme`.
"""

from mess.recipes.job import DataChoice, DeviceChoice, Job, SchemeTraining
from mess.recipes.run import RunResult, Tested, run_job, score_network

__all__ = ["DataChoice", "DeviceChoice", "Job", "RunResult", "SchemeTraining", "Tested", "run_job", "score_network"]
