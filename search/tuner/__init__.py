"""Ray Tune trains what the proposer proposes; the ledger hears of everything first."""

import os

from ray.tune.execution import class_cache

# Ray Tune reads these when it is imported: no result files of its own beside the ledger, no screen of its own.
os.environ.update(
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", TUNE_PRINT_ALL_TRIAL_ERRORS="0", TUNE_GLOBAL_CHECKPOINT_S="100000000",
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0", RAY_AIR_NEW_OUTPUT="0",
)  # fmt: skip

# A process with variables of its own is started when a trial needs it, not with the cluster. Tune sets some for
# Lightning, and has no public way to leave them out.
getattr(class_cache, "DEFAULT_ENV_VARS", {}).clear()
