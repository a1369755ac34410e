"""One file more in `search/samplers` and in `search/schedulers` is a kind more in a spec; no other file changes."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

SAMPLER = '''
"""Fix the learning rate; sample everything else at random."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from search.samplers.base import SamplerConfig, SearchContext

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class FixedRateConfig(SamplerConfig, kind="fixed-rate"):
    """Propose one learning rate only."""

    kind: Literal["fixed-rate"] = "fixed-rate"
    rate: float = Field(gt=0, description="learning rate of all proposals")

    def build(self, context: SearchContext, seed: int) -> "BaseSampler":
        from optuna.samplers import PartialFixedSampler, RandomSampler

        return PartialFixedSampler({"train.lr": self.rate}, RandomSampler(seed=seed))
'''

SCHEDULER = '''
"""Stop every trial after the same epoch."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from search.analysis.pareto import Objectives
from search.ledger.history import History
from search.schedulers.base import Scheduler, SchedulerConfig


class ShortConfig(SchedulerConfig, kind="short"):
    """Stop every trial after ``epochs``."""

    kind: Literal["short"] = "short"
    epochs: int = Field(ge=1, description="epochs of each trial")

    def build(self, objectives: Objectives, measured: str) -> Scheduler:
        return Short(self.epochs)

    def expected_epochs(self, epochs: int) -> float:
        return min(epochs, self.epochs)


@dataclass(frozen=True)
class Short:
    """Stops trials after ``epochs``."""

    epochs: int

    def verdict(self, history: History, number: int) -> str | None:
        return "long enough" if history.trials[number].epoch >= self.epochs else None
'''

SEARCH = """
import importlib.util
import json
import sys
from contextlib import closing
from pathlib import Path


def import_with(package, folder):
    # As if the file in the folder stood in the package's own folder.
    spec = importlib.util.find_spec(package)
    spec.submodule_search_locations.append(str(folder))
    sys.modules[package] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


folder = Path(sys.argv[1])
import_with("search.samplers", folder / "samplers")
import_with("search.schedulers", folder / "schedulers")

from search.ledger.events import SearchBegan, Started
from search.ledger.file import NAME, Ledger
from search.spec.check import check
from search.spec.messages import SpecError
from search.tuner.results import EpochResult
from search.tuner.state import Search
from tests.search.searches import TREE, spec

kinds = {"sampler": {"kind": "fixed-rate", "rate": 0.3}, "scheduler": {"kind": "short", "epochs": 1}}
short = spec(search={"budget": {"trials": 4}} | kinds)
with closing(Ledger(folder / NAME)) as ledger:
    search = Search(short, folder, folder, ledger, [])
    search.record(SearchBegan(id="", name="", spec=short.tree(), versions={}))
    while (task := search.next_task()) is not None:
        search.record(Started(trial=task["number"], epoch=0))
        assert search.reported(task["number"], EpochResult(1, {"top1": 0.5}, 1.0))
    ends = [(trial.end.event, trial.end.reason) for trial in ledger.history.trials.values()]
    rates = [trial.config["train"]["lr"] for trial in ledger.history.trials.values()]
try:
    spec(search={"budget": {"trials": 4}, "sampler": {"kind": "fixed-rates"}})
except SpecError as error:
    message = str(error)
print(json.dumps({"ends": ends, "rates": rates, "message": message, "expected": check(short).halved}))
"""


@pytest.mark.medium
def test_a_new_sampler_and_a_new_scheduler_are_one_file_each(tmp_path: Path) -> None:
    for name, text in (("samplers/fixed_rate.py", SAMPLER), ("schedulers/short.py", SCHEDULER)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(dedent(text))

    done = subprocess.run([sys.executable, "-c", SEARCH, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    # Trial 0 is the plainest config of the space, with the rate in the middle of the range.
    assert result["rates"] == [0.2, 0.3, 0.3, 0.3]
    assert result["ends"] == [["stopped", "long enough"]] * 4
    assert result["expected"] == 1
    assert "search.sampler.kind: must be one of " in result["message"]
    assert "did you mean fixed-rate?" in result["message"]
