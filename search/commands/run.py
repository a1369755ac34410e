"""`vattn run`: from a spec file to a front, with a resume at any point."""

import json
import platform
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from search.analysis.confirmation import plan
from search.ledger.file import NAME, Ledger
from search.ledger.history import EXHAUSTED, FAILING, LATE, History
from search.proposals.warm_start import Source, read_sources
from search.report.confirmation import as_json
from search.report.display import Display
from search.report.plot import draw
from search.report.progress import progress
from search.report.summary import final
from search.report.tracking.tracker import Tracker, catch_up
from search.report.words import program
from search.spec.check import check
from search.spec.schema import Spec
from search.spec.validation import load
from vattn.data import listed

#: what of a spec may change between an interruption and the resume
CHANGEABLE = ("budget", "confirm", "resources", "tracking", "output")


def run(path: Path, sets: list[str], resume: bool, address: str | None, for_machines: bool) -> int:
    """Run or resume the search of a spec file; return the exit status."""
    spec = load(path, sets)
    check(spec)
    output = spec.output_dir()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise ValueError(f"{path}: output: must be a folder ({what}); name another (got {output})") from None
    screen = sys.stderr if for_machines else sys.stdout
    with closing(Ledger(output / NAME)) as ledger:
        if ledger.history.trials and not resume:
            raise ValueError(f"{path}: output: {output} holds a search already; go on with --resume, or name another")
        if ledger.history.search:
            _must_match(path, spec, ledger)
        # What the ledger has of earlier searches is not read again: a resume needs them no more.
        sources = read_sources(spec, ledger.history.warm)
        complete = is_complete(spec, ledger.history, exhausted=_exhausted(spec, ledger.history))
        try:
            if complete:
                catch_up(output, spec.tracking.uri, spec.tracking.experiment, ledger.replay())
            else:
                complete = _search(spec, sources, output, ledger, address, screen)
        except KeyboardInterrupt:  # while data were made, or while the end was written
            complete = False
        history = ledger.history
    if history.search:
        if for_machines:
            print(json.dumps(as_json(history, spec.objectives), indent=2))
        print(final(history, spec.objectives, output), file=screen)
    if history.in_state("finished"):
        for name in ("pareto.html", "pareto.png"):
            try:
                draw(history, spec.objectives, output / name)
            except OSError as error:
                print(error, file=sys.stderr)  # the result is there all the same
    if not complete:
        again = shlex.join([program(), "run", str(path), *(word for change in sets for word in ("--set", change))])
        print(f"interrupted; go on with: {again} --resume", file=screen)
        return 130
    return 0 if history.in_state("finished") else 1


def is_complete(spec: Spec, history: History, exhausted: bool) -> bool:
    """Whether nothing is left to do: the budget or the space is spent, the front confirmed, and no trial under way."""
    budget, confirm = spec.search.budget, spec.search.confirm
    spent = exhausted or history.spent(budget.trials, budget.hours, budget.gpu_hours) >= 1
    unconfirmed = confirm != "none" and plan(history, spec.objectives, confirm.top, confirm.seeds)
    return spent and not history.unfinished() and not unconfirmed


def _exhausted(spec: Spec, history: History) -> bool:
    """Whether the search has ended before its budget was spent, for a reason that is one still."""
    reason = history.ended and history.ended["reason"]
    return reason == EXHAUSTED or (reason == LATE and history.budget == spec.search.budget.tree())


def _search(
    spec: Spec, sources: list[Source], output: Path, ledger: Ledger, address: str | None, screen: TextIO
) -> bool:
    """Return whether it came to its end."""
    files = listed(spec.data, output, progress)
    # Ray, Optuna and MLflow take seconds to import: not before the input is known to be right.
    from cluster.connect import connecting
    from search.tuner.state import Search
    from search.tuner.trainable import MODULES
    from search.tuner.tune import tune_search

    with connecting(address, MODULES) as joined:
        if address is not None:
            joined()  # before hours of decoding
        # The test split is for what a confirmation trains. Workers have working directories of their own.
        cache = files.decode(progress, test=spec.search.confirm != "none").resolve()
        with (
            closing(Tracker(output, spec.tracking.uri, spec.tracking.experiment)) as tracker,
            closing(Display(screen)) as display,
        ):
            search = Search(spec, output, cache, ledger, [tracker, display])
            if ledger.history.search:
                search.record("resumed", budget=spec.search.budget.tree())
            else:
                search.record("search", id=uuid.uuid4().hex, name=spec.name, spec=spec.tree(), versions=_versions())
            for source in sources:
                search.record("warm_start", **source.event())
            with suppress(KeyboardInterrupt):  # which Tune makes an end of its work, but not what goes before and after
                tune_search(search, joined)
            complete = is_complete(spec, ledger.history, exhausted=search.reason in (EXHAUSTED, FAILING, LATE))
            search.record("ended", reason=search.reason if complete else "interrupted")
    return complete


def _must_match(path: Path, spec: Spec, ledger: Ledger) -> None:
    """Raise ValueError where the spec is not the one that the search began with."""
    changed = list(_differences(_fixed(ledger.history.began.spec), _fixed(spec.tree())))
    if changed:
        raise ValueError(
            f"{path}: {'; '.join(changed[:3])}: must be as when the search began, to go on with it; only "
            f"{', '.join(CHANGEABLE)} may change. Undo the change, or name another output"
        )


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield what of a spec is not as it was: its path, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*new, *old]):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} ({json.dumps(new)}, and was {json.dumps(old)})"


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in tree.items() if key != "search"} | tree["search"]
    return {key: value for key, value in flat.items() if key not in CHANGEABLE}


def _versions() -> dict[str, str]:
    packages = ("vattn-search", "torch", "ray", "optuna", "mlflow", "pyarrow")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}
