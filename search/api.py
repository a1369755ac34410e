"""A search for scripts and notebooks: load, run, wait, and read its results as tables and figures."""

import base64
import html
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from search.analysis.certainty import certainty, measured_objective
from search.analysis.pareto import Objectives
from search.analysis.pick import pick
from search.ledger.file import NAME, read
from search.ledger.history import History, Trial
from search.ledger.runs import open_run, resolve_run
from search.report.outside.beat import read as read_beat
from search.report.outside.status import as_json as status_as_json
from search.report.outside.status import status_of
from search.report.tables.front import render
from search.report.why.facts import why
from search.report.why.json import as_json as why_as_json
from search.report.why.text import render as render_why
from search.report.wording.trials import describe, mechanism_kinds, searched_values
from search.report.wording.values import format_value
from vattn.errors import UserError

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from matplotlib.figure import Figure

#: seconds between two looks at a search that is waited for
_INTERVAL = 0.5
#: lines of its output that an error of a search shows
_LINES = 20


class Search:
    """A search: one that is to run, from its spec, or one that ran, from its output folder.

    Everything is read from the ledger when it is asked for, so it is up to date while the search runs.

    Args:
        spec: the spec file, or the name of a ready one, such as "quickstart".
        changes: values of the spec that are changed, by dotted key: ``{"search.budget.trials": 8}``.
        output: the folder of the results; None: that of the spec.

    Raises:
        UserError: the spec is invalid; each line names a key.
    """

    def __init__(
        self, spec: str | Path, changes: Mapping[str, Any] | None = None, output: str | Path | None = None
    ) -> None:
        from search.commands._spec import spec_file
        from search.spec.validation import load

        self._spec: Path | None = spec_file(str(spec))
        self._sets = [f"{key}={json.dumps(value)}" for key, value in (changes or {}).items()]
        self._sets += [] if output is None else [f"output={json.dumps(str(output))}"]
        #: the output folder
        self.folder: Path = load(self._spec, self._sets).output_dir()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Return the search of an output folder, or of a name below ``runs``; raises UserError if there is none."""
        search = cls.__new__(cls)
        search._spec, search._sets, search._process, search._log = None, [], None, None
        search.folder = resolve_run(str(run))
        return search

    # Running

    def run(self, address: str | None = None, wait: bool = True) -> Self:
        """Run the search, or continue it where it was interrupted, in a process of its own; return it.

        Args:
            address: Ray cluster to run on; None: a new one on this machine.
            wait: whether to return when it has ended (see `wait`). Otherwise it runs in the background.
        """
        if self._spec is None:
            raise UserError("was loaded from its folder", file=self.folder, way_out="run Search(SPEC) instead")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # it is read when the search has ended
        words = ["run", str(self._spec), *(word for change in self._sets for word in ("--set", change)), "--resume"]
        words += ["--address", address] if address else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "search", *words], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        return self.wait() if wait else self

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until no process runs the search; return it.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            TimeoutError: it still runs.
            RuntimeError: it was started here and failed; with the last lines of its output.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while self._process.poll() is None if self._process else self._is_run_elsewhere():
            if time.monotonic() >= until:
                raise TimeoutError(f"{self.folder}: the search still runs after {timeout:g} seconds")
            time.sleep(_INTERVAL)
        if self._process and self._process.returncode:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").splitlines()[-_LINES:]
            raise RuntimeError("\n".join([f"{self.folder}: the search ended with status {self._process.returncode}:",
                                          *lines]))  # fmt: skip
        return self

    def _is_run_elsewhere(self) -> bool:
        beat = read_beat(self.folder)
        return beat is not None and beat.alive(time.time())

    def stop(self) -> None:
        """Interrupt the search that `run` started, and wait for its end; `run` continues it."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    @property
    def status(self) -> dict[str, Any]:
        """State, progress, best and what it waits for, as `vattn status --json` prints them."""
        return status_as_json(status_of(self.folder))

    # Results

    @property
    def history(self) -> History:
        """The state of the search as its ledger has it now."""
        return open_run(str(self.folder))

    def front(self) -> "pd.DataFrame":
        """Return the front by trial number, in order of increasing cost.

        Columns: objectives, costs, ``low`` and ``high`` (the 95 % interval of the measured objective), ``pick`` (best
        and knee), and those of `trials` that say what the model is. Rates are between 0 and 1. Once the front is
        confirmed, metrics are the means of fresh seeds.
        """
        return _front(self.history)

    def trials(self) -> "pd.DataFrame":
        """Return all trials by number: state, epoch, seconds, metrics of the last epoch, costs, and searched values.

        The metrics of trials that were stopped early are partial.
        """
        rows = [
            {"trial": trial.number, "state": trial.state, "epoch": trial.epoch, "seconds": trial.seconds}
            | trial.metrics | _model(trial)
            for trial in self.history.trials.values()
        ]  # fmt: skip
        return _frame(rows, "trial")

    def curves(self) -> "pd.DataFrame":
        """Return the learning curves: a row for each epoch of each trial, with its metrics and seconds."""
        rows = [
            {"trial": trial.number, "epoch": report.epoch, "seconds": report.seconds} | report.metrics
            for trial in self.history.trials.values()
            for report in trial.reports
        ]
        return _frame(rows, "trial", "epoch")

    def pick(self, rule: str = "knee") -> int:
        """Return the number of the trial that a rule picks: "knee", "best", "trial=12" or "gflops<=0.5"."""
        history = self.history
        return pick(history, history.objectives, rule).number

    def config(self, rule: str = "knee") -> dict[str, Any]:
        """Return the complete config of a trial; rules are those of `pick`."""
        return self.history.trials[self.pick(rule)].run_config

    def why(self, trial: int) -> "Answer":
        """Return what was decided about a trial and by what comparison: `print` it, or take its ``facts``."""
        facts = why(read(self.folder / NAME), trial)
        return Answer(render_why(facts), why_as_json(facts))

    def export(
        self, out: str | Path, rule: str = "knee", weights: str | Path | None = None, epochs: int | None = None,
        force: bool = False,
    ) -> Path:  # fmt: skip
        """Write a trial as a complete config, which `vattn train` takes; return the file.

        Args:
            out: the YAML file.
            rule: as for `pick`.
            weights: folder for copies of its weights.
            epochs: length of the training; None: that of the search.
            force: overwrite files.
        """
        from search.commands.export import export

        export(str(self.folder), rule, Path(out), None if weights is None else Path(weights), epochs, force)
        return Path(out)

    def report(self, out: str | Path) -> Path:
        """Write the page that explains the search, one HTML file; return it."""
        from search.report.clips.format import clip_files, read_test
        from search.report.page.files import read_content, write_page

        tests = [read_test(file) for file in clip_files(self.folder)]
        write_page(read_content(self.folder, str(self.folder), tests), Path(out))
        return Path(out)

    def figure(self) -> "Figure":
        """Return the front as a figure of matplotlib."""
        from search.report.plots.png import front_figure

        history = self.history
        return front_figure(history, history.objectives)

    def study(self, objective: str | None = None, file: str | Path | None = None) -> "optuna.Study":
        """Return the search as an Optuna study, with learning curves as intermediate values.

        Args:
            objective: the only objective of the study; None: all. optuna-dashboard draws curves only of one objective.
            file: a journal for optuna-dashboard, which is written anew; None: the study is kept in memory.
        """
        from search.proposals.export import study_of

        history = self.history
        objectives: Objectives = {name: way for name, way in history.objectives.items() if objective in (None, name)}
        if not objectives:
            known = ", ".join(history.objectives)
            raise UserError("is no objective of the search", path="objective", way_out=f"take {known}", found=objective)
        return study_of(history, objectives, None if file is None else Path(file))

    # Display

    def __repr__(self) -> str:
        """Return the name, the progress and the folder."""
        status = self.status if (self.folder / NAME).is_file() else {"name": self.folder.name, "progress": "not begun"}
        return f"Search({status['name']}: {status.get('progress') or status.get('state')}, {os.fspath(self.folder)})"

    def __str__(self) -> str:
        """Return the front as `vattn pareto` prints it."""
        if not (self.folder / NAME).is_file():
            return repr(self)
        history = self.history
        return render(history, history.objectives)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the answer in sentences, the front as a table and as a picture."""
        if not (self.folder / NAME).is_file() or not (history := self.history).in_state("finished"):
            return f"<p>{html.escape(repr(self))}</p>"
        from search.report.page.content import content
        from search.report.plots.png import front_figure

        shown = content(history, history.objectives, str(self.folder), only_front=True)
        name = measured_objective(history, history.objectives)
        table = _front(history)[list(dict.fromkeys([name, "low", "high", *history.objectives, "pick", "model"]))]
        picture = io.BytesIO()
        front_figure(history, history.objectives).savefig(picture, format="png")
        answers = "".join(f"<p><b>{html.escape(word)}</b>: {html.escape(text)}</p>" for word, text in shown.answers)
        return (
            f"<h3>{html.escape(shown.name)}</h3><p>{html.escape(' · '.join(shown.facts))}</p>{answers}"
            f'{table.to_html()}<img alt="front" src="data:image/png;base64,'
            f'{base64.b64encode(picture.getvalue()).decode()}" style="max-width: 600px">'
        )


class Answer(str):
    """A text for people with its facts as plain values; a notebook shows it as it is printed."""

    facts: dict[str, Any]

    def __new__(cls, text: str, facts: dict[str, Any]) -> Self:
        """Return the text with its facts."""
        answer = super().__new__(cls, text)
        answer.facts = facts
        return answer

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


def _front(history: History) -> "pd.DataFrame":
    sure = certainty(history, history.objectives)
    rows = []
    for trial in sure.front:
        estimate = sure.estimates[trial.number]
        names = dict.fromkeys([*history.objectives, *trial.cost])
        numbers = {name: trial.metrics.get(name, math.nan) for name in names}
        rows.append(
            {"trial": trial.number} | numbers | {"low": estimate.low, "high": estimate.high, "pick": sure.marks(trial)}
            | _model(trial)
        )  # fmt: skip
    return _frame(rows, "trial")


def _model(trial: Trial) -> dict[str, Any]:
    """Return what a trial's model is: its mechanism, its searched values, and a description."""
    values = {name: value for name, value in searched_values(trial).items() if name != "attention"}
    plain = {
        name: value if isinstance(value, int | float | str) else format_value(value) for name, value in values.items()
    }
    return {"mechanism": mechanism_kinds(trial)} | plain | {"model": describe(trial)}


def _frame(rows: list[dict[str, Any]], *index: str) -> "pd.DataFrame":
    import pandas as pd

    columns = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame(rows, columns=list(columns) or list(index)).set_index(list(index))
