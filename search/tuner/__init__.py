"""Running the trials of a search with Ray Tune."""

import os

from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

# Ray Tune reads these when it is imported: no result files of its own beside the ledger, and no output of its own.
os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", TUNE_PRINT_ALL_TRIAL_ERRORS="0", TUNE_GLOBAL_CHECKPOINT_S="100000000",
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0", RAY_AIR_NEW_OUTPUT="0",
)  # fmt: skip

# Tune sets environment variables for Lightning, without a public way to leave them out. Ray starts a process with
# variables of its own only when a trial needs it; without them, trials use the processes that start with the cluster.
getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()

# Tune writes the state of all its trials at the end, for a resume of its own. The ledger is the state here, and with
# 2,000 trials the end of a search, or its interruption, would take longer for that than for everything else.
if hasattr(TuneController, "_get_trial_checkpoints"):
    setattr(TuneController, "_get_trial_checkpoints", lambda _: {})  # noqa: B010  # there is no public way
