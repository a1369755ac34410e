"""`vattn run`: run the search of a spec file, or resume one that was interrupted at any point."""

import json
import shlex
import sys
import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from cluster.address import ClusterAddress, resolve
from search.analysis.confirmation import plan
from search.commands._spec import overrides, spec_file
from search.commands._versions import versions
from search.commands.supervise import supervise
from search.ledger.events import Ended, Measured, Resumed, SearchBegan, WarmStarted
from search.ledger.file import NAME, Ledger
from search.ledger.history import EXHAUSTED, FAILING, LATE, History
from search.ledger.remote import Remote, is_url
from search.proposals.warm_start import read_sources
from search.report.live.display import Display
from search.report.live.progress import progress
from search.report.outside.monitor import Monitor
from search.report.plots.front import draw
from search.report.tables.data import render_data
from search.report.tables.front import as_json
from search.report.tables.summary import summary
from search.report.tracking.tracker import Tracker, catch_up
from search.report.wording.program import program
from search.spec.check import check
from search.spec.data import check_data
from search.spec.schema import Spec
from search.spec.sections import Search as SearchSection
from search.spec.validation import load
from vattn.base import LATER
from vattn.canonical import changes
from vattn.config import ModelConfig
from vattn.data import listed
from vattn.data.cache import content_of
from vattn.data.config import PLACES, StoreConfig
from vattn.data.dataset import Listed
from vattn.errors import StorageError, UserError, without_password

#: keys of a spec, and of its `search`, that may change between an interruption and the resume
CHANGEABLE = ("budget", "confirm", "resources", "tracking", "output", "notify")


def run(arguments: Namespace) -> int:
    """Run or resume a search; return the exit status."""
    path, sets = spec_file(arguments.spec), overrides(arguments)
    if arguments.restarts:
        words = ["run", str(path), *(word for change in sets for word in ("--set", change))]
        words += ["--address", arguments.address] if arguments.address else []
        words += [f"--{name}" for name in ("resume", "json") if getattr(arguments, name)]
        return supervise(words, load(path, sets).output_dir(), arguments.restarts)
    return run_search(path, sets, arguments.resume, arguments.address, arguments.json)


def run_search(path: Path, sets: list[str], resume: bool, address: str | None, machine_output: bool) -> int:
    """Run or resume the search of a spec file; return the exit status.

    Args:
        path: the spec file.
        sets: changes of its values, as A.B=V.
        resume: whether the output folder may hold a search already, which is then continued.
        address: Ray cluster to run on, see `cluster.connect.connected`.
        machine_output: whether stdout gets the result as JSON; all text for people then goes to stderr.

    Raises:
        UserError: the spec is invalid or cannot be resumed, or no cluster answers at the address.
    """
    cluster = resolve(address)
    cluster.probe()
    spec = load(path, sets)
    weights = check(spec).taken
    output = spec.output_dir()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"must be a folder ({reason})", file=path, path="output", way_out="name another", found=output
        ) from None
    screen = sys.stderr if machine_output else sys.stdout
    for line in weights:
        print(f"weights: {line}", file=screen)
    with _mirrored(spec, output, screen) as mirror, closing(Ledger(output / NAME)) as ledger:
        if ledger.history.trials and not resume:
            way_out = "go on with --resume, or name another"
            raise UserError(f"{output} holds a search already", file=path, path="output", way_out=way_out)
        if resume and not ledger.history.search:
            print(f"{output}: there is no search to resume; it begins", file=screen, flush=True)
        if ledger.history.search:
            spec = _with_chosen_store(_with_begun_scheduler(spec, ledger), ledger)
            _check_unchanged(path, spec, ledger)
        # The ledger has copies of the earlier searches that it names, so that a resume does not need their files.
        sources = read_sources(spec, ledger.history.warm)
        complete = is_complete(spec, ledger.history, exhausted=_exhausted(spec, ledger.history))
        try:
            if complete:
                catch_up(output, spec.tracking.uri, spec.tracking.experiment, ledger.replay())
            else:
                complete = _search(spec, sources, output, ledger, cluster, screen, mirror)
        except KeyboardInterrupt:  # during data preparation, or while the end is recorded
            complete = False
        history = ledger.history
    words = [str(path), *(word for change in sets for word in ("--set", without_password(change)))]
    words += ["--address", address] if address else []
    if history.search:
        if machine_output:
            print(json.dumps(as_json(history, spec.objectives), indent=2))
        print(summary(history, spec.objectives, output, words), file=screen)
    if history.in_state("finished"):
        for name in ("pareto.html", "pareto.png"):
            try:
                draw(history, spec.objectives, output / name)
            except OSError as error:
                # The ledger has the result, and it was printed: the search itself has not failed.
                print(error, file=sys.stderr)
    if mirror:
        _copy_results(mirror)
    if not complete:
        command = shlex.join([program(), "run", *words, "--resume", *(["--json"] if machine_output else [])])
        print(f"interrupted; go on with: {command}", file=screen)
        return 130
    return 0 if history.in_state("finished") else 1


def is_complete(spec: Spec, history: History, exhausted: bool) -> bool:
    """Return whether a search is done: its budget or space is spent, its front confirmed, and no trial unfinished."""
    budget, confirm = spec.search.budget, spec.search.confirm
    spent = exhausted or history.spent(budget.trials, budget.hours, budget.gpu_hours) >= 1
    unconfirmed = confirm != "none" and plan(history, spec.objectives, confirm.top, confirm.seeds)
    return spent and not history.unfinished() and not unconfirmed


def _exhausted(spec: Spec, history: History) -> bool:
    """Return whether the search ended before its budget was spent, for a reason that still applies."""
    reason = history.ended and history.ended.reason
    return reason == EXHAUSTED or (reason == LATE and history.budget == spec.search.budget.tree())


def _search(
    spec: Spec, sources: list[WarmStarted], output: Path, ledger: Ledger, cluster: ClusterAddress, screen: TextIO,
    mirror: Any,
) -> bool:  # fmt: skip
    """Run the search until it ends or is interrupted; return whether it is complete."""
    where = "Starting Ray ..." if cluster.text == "local" else f"Connecting to Ray at {cluster.text} ..."
    print(where, file=screen, flush=True)
    meter = None
    if spec.latency != "none":
        from search.tuner.meter import Meter

        meter = Meter(spec, ledger.history.latencies.values())
        print(f"latency_ms is measured on {meter.name}, while no trial runs", file=screen, flush=True)
    # The data are checked first, because the imports of Ray, Optuna and MLflow take seconds. With an address, the
    # cluster is connected first, because to generate and decode data can take hours.
    files = _listed(spec, output) if cluster.text == "local" else None
    from cluster.connect import connecting
    from search.tuner.mirror import fetch_cache
    from search.tuner.state import Search
    from search.tuner.trainable import MODULES
    from search.tuner.tune import tune_search

    with connecting(cluster, MODULES) as wait_for_cluster, Monitor(output, spec) as monitor:

        def watched(*stage: Any) -> None:
            wait_for_cluster.check()  # to decode data can take hours
            progress(*stage)

        if files is None:
            wait_for_cluster()
            files = _listed(spec, output)
        spec, files, data = check_data(spec, files)
        print(render_data(data), file=screen, flush=True)
        # The path is absolute: workers have other working directories.
        if mirror:
            fetch_cache(mirror.remote, files.plan.folder)
        cache = files.decode(watched).resolve()
        if mirror and spec.data.cache == "auto":
            mirror.upload_cache(cache)
        with (
            closing(Tracker(output, spec.tracking.uri, spec.tracking.experiment)) as tracker,
            closing(Display(screen)) as display,
        ):
            monitor.listen(tracker.wait_for)
            monitor.listen(display.wait_for)
            if meter:
                wait_for_cluster.settle()

            def measure(model: ModelConfig) -> Measured:
                assert meter
                tracker.settle()
                return meter(model)

            content = content_of(cache)
            _check_content(spec, content, ledger)
            search = Search(
                spec, output, cache, ledger, [tracker, display, monitor], mirror, measure if meter else None
            )
            search.storage.say = monitor.waits
            monitor.watch(lambda: search.storage.slow)
            if ledger.history.search:
                began = ledger.history.began.spec["trial"]["data"] | ledger.history.places
                places = {key: getattr(spec.data, key) for key in ("root", "cache")}
                resumed = Resumed(budget=spec.search.budget.tree())
                if any(began.get(key) != place for key, place in places.items()):
                    resumed = resumed.model_copy(update={"places": places})
                search.record(resumed)
            else:
                clips = {split: number for split, number in data.summary.totals.items() if number}
                began = {"id": uuid.uuid4().hex, "name": spec.name, "spec": _recorded(spec), "versions": versions()}
                search.record(SearchBegan(**began, clips=clips, content=content))
            for source in sources:
                search.record(source)
            monitor.phase = "searches"
            with suppress(KeyboardInterrupt):  # Tune handles Ctrl-C while it runs, but not before and after
                tune_search(search, wait_for_cluster)
            complete = is_complete(spec, ledger.history, exhausted=search.reason in (EXHAUSTED, FAILING, LATE))
            try:
                search.record(Ended(reason=search.reason if complete else "interrupted"))
            except StorageError:
                if not search.storage.interrupted:  # while its files were gone: it ends as if it had been killed
                    raise
    return complete


@contextmanager
def _mirrored(spec: Spec, output: Path, screen: TextIO) -> Iterator[Any]:
    """Yield what copies the files of a search to the store that is its output; None if that is a folder."""
    if not is_url(spec.output):
        yield None
        return
    from search.tuner.mirror import Mirror

    mirror = Mirror(Remote(spec.output), output)
    mirror.take(lambda text: print(text, file=screen, flush=True))
    try:
        yield mirror
    finally:
        mirror.close()


def _copy_results(mirror: Any) -> None:
    """Copy the pictures of a search to its store, or print why that is not possible: the ledger has the result."""
    try:
        mirror.upload_results()
    except OSError as error:
        print(f"{mirror.remote.url}: {error}", file=sys.stderr)


def _recorded(spec: Spec) -> dict[str, Any]:
    """Return the spec as the ledger has it: others read that file, so it has no password."""
    tree = spec.tree()
    return tree | {"tracking": tree["tracking"] | {"uri": without_password(spec.tracking.uri)}}


def _listed(spec: Spec, output: Path) -> Listed:
    """Return the clips of a search, those of the test split only for a confirmation, which alone reads it."""
    return listed(spec.data, output, progress, test=spec.search.confirm != "none")


def _check_unchanged(path: Path, spec: Spec, ledger: Ledger) -> None:
    """Raise UserError if the spec differs from the one that the search began with."""
    changed = [text for _, text in changes(_fixed(ledger.history.began.spec), _fixed(spec.tree()))]
    if changed:
        raise UserError(
            f"must be as when the search began, to go on with it; only {', '.join(CHANGEABLE)} may change. Undo the "
            "change, or name another output",
            file=path,
            path="; ".join(changed[:3]),
        )


def _with_begun_scheduler(spec: Spec, ledger: Ledger) -> Spec:
    """Return the spec with the scheduler's values of the search's begin, where the file leaves them open.

    So a search of an earlier version, in which other defaults were best, can go on with its own.
    """
    began, scheduler = ledger.history.began.spec["search"]["scheduler"], spec.search.scheduler
    if not isinstance(began, dict) or began.get("kind") != scheduler.kind:
        return spec
    kept = {
        name: value
        for name, value in began.items()
        if name in type(scheduler).model_fields and name not in scheduler.model_fields_set
    }
    begun = type(scheduler).parse(scheduler.tree() | kept)
    return spec.model_copy(update={"search": spec.search.model_copy(update={"scheduler": begun})})


def _check_content(spec: Spec, content: str, ledger: Ledger) -> None:
    """Raise UserError if the clips are not those that the search began with, wherever they lay then."""
    if ledger.history.search and ledger.history.began.content not in ("", content):
        raise UserError(
            "has other clips or labels than the search began with",
            file=spec.file,
            path="trial.data.root",
            way_out="name the folder that has the same files, or another output",
            found=spec.data.root,
        )


def _with_chosen_store(spec: Spec, ledger: Ledger) -> Spec:
    """Return the spec with the store that the search began with, if the file leaves it open."""
    store = ledger.history.began.spec["trial"]["data"].get("store")
    if not spec.chooses_store or not isinstance(store, dict) or store.get("size") != spec.data.store.size:
        return spec
    return spec.stored(StoreConfig.parse(store))


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a spec that a resume must not change; those of ``search`` are on the top level."""
    flat = {key: value for key, value in tree.items() if key != "search"} | tree["search"]
    data = {key: value for key, value in tree["trial"]["data"].items() if key not in PLACES}
    flat["trial"] = tree["trial"] | {"data": data}
    # Ledgers of earlier versions lack the keys that were added since.
    later = [key for key, field in SearchSection.model_fields.items() if field.json_schema_extra == LATER]
    return {key: value for key, value in flat.items() if key not in CHANGEABLE and (value or key not in later)}
