"""Trainings in processes of their own, which can be killed."""

import subprocess
import sys
from pathlib import Path

from vattn.config import TrialConfig

FIT = """
import os, pathlib, signal, sys, threading, torch
from torch import distributed as dist
from torch.optim.optimizer import register_optimizer_step_pre_hook
from vattn.config import TrialConfig
from vattn.training.fit import fit
config, cache, folder, rank, world, last, keep_best = sys.argv[1:]
torch.set_num_threads(1)
if world != "1":
    meeting = (pathlib.Path(folder) / f"meeting{last}").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(world))
steps = 0
def count(*_):
    global steps
    for thread in threading.enumerate():
        if thread.name == "checkpoint": thread.join()
    if steps == int(last): os.kill(os.getpid(), signal.SIGKILL)
    steps += 1
register_optimizer_step_pre_hook(count)
print([(epoch.number, epoch.metrics) for epoch in
       fit(TrialConfig.parse(eval(config)), pathlib.Path(cache), pathlib.Path(folder), keep_best=keep_best == "True")])
print(steps)
"""


def fit_in_processes(
    config: TrialConfig, cache: Path, folder: Path, world: int, last: int = -1, keep_best: bool = False
) -> list[str]:
    """Train in ``world`` processes, which kill themselves after ``last`` steps; return the lines of the first one.

    The lines are the metrics of each epoch and the number of steps. With ``last`` -1 they train to the end. They wait
    for each checkpoint before the next step.
    """
    folder.mkdir(exist_ok=True)
    words = [[repr(config.tree()), *map(str, (cache, folder, rank, world, last, keep_best))] for rank in range(world)]
    processes = [
        subprocess.Popen([sys.executable, "-c", FIT, *word], stdout=subprocess.PIPE, text=True) for word in words
    ]
    printed = [process.communicate()[0] for process in processes]
    assert {process.returncode for process in processes} == {0 if last < 0 else -9}
    return printed[0].splitlines()
