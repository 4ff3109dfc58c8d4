"""The ways to train and to test, each put together from data, models, training and the scheme.

`Job` says what a run is asked to do, `run_job` does it, `score_network` tests any file. Plain training, training with
the scheme (-N), retraining (-T) and rounded kernels (-Q) differ only in `hooks`; `teacher` is what version 4 follows.
"""

from mess.recipes.job import DataChoice as DataChoice
from mess.recipes.job import DeviceChoice as DeviceChoice
from mess.recipes.job import Job as Job
from mess.recipes.job import RateChoice as RateChoice
from mess.recipes.job import SchemeChoice as SchemeChoice
from mess.recipes.job import run_folder as run_folder
from mess.recipes.resuming import changes_of as changes_of
from mess.recipes.resuming import recipe_to_resume as recipe_to_resume
from mess.recipes.resuming import refuse_other_scheme as refuse_other_scheme
from mess.recipes.run import run_job as run_job
from mess.recipes.run import score_network as score_network
from mess.recipes.run import score_stored as score_stored
from mess.recipes.sources import calibration_batches as calibration_batches
from mess.recipes.sources import calibration_inputs as calibration_inputs
from mess.recipes.sources import data_of as data_of
