"""`vattn`, which is `python -m search`: reads the command line; each command imports what it needs when it runs."""

import argparse
import json
import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Arguments = argparse.Namespace
PACKAGES = ("vattn", "spaces", "cluster", "search")
#: commands of the interface that are not built yet
PLANNED = ("report", "compare", "predict", "latency")


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 the input is wrong, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except ValueError as error:
        if not raised_by_us(error):
            traceback.print_exc()
            return 1
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads our output has seen enough, as `head` does.
        sys.stderr.close()
        return 0
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # one of ours, which says all there is to say
            print(error, file=sys.stderr)
            return 1
        if error.filename is None:
            traceback.print_exc()
            return 1
        print(f"{error.filename}: {(error.strerror or str(error)).lower()}; name another place", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def raised_by_us(error: BaseException) -> bool:
    """Whether a ``raise`` of ours made an error: then it tells a user what to do, else it is a problem of the program."""
    (frame, line), *_ = reversed(list(traceback.walk_tb(error.__traceback__)))
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in PACKAGES and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vattn", description="Search the attention of video networks on a Ray cluster: accuracy against GFLOPs."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Arguments], int | None], does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(run=run)
        return added

    check = command("check", _check, "validate a search spec, count its space, print its cost range and budget")
    run = command("run", _run, "run a search: the main job")
    submit = command("submit", _submit, "run a search as a job of a Ray cluster")
    for spec in (check, run, submit):
        spec.add_argument("spec", type=_spec_file, metavar="SPEC", help="YAML file, or a name from spaces/library")
        spec.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")
    for spec in (run, submit):
        spec.add_argument("--output", metavar="DIR", help="folder of the results (default: the spec's)")
    run.add_argument("--resume", action="store_true", help="go on with a search that was interrupted")
    run.add_argument("--address", help="Ray cluster to run on (default: the one this is a job of, else an own one)")
    run.add_argument("--json", action="store_true", help="print the result as JSON, and progress to stderr")
    submit.add_argument("--address", required=True, metavar="URL", help="of the cluster's dashboard: http://HOST:8265")
    submit.add_argument("--follow", action="store_true", help="print the job's output until it ends")
    for name, does in (
        ("jobs", "list the jobs of a cluster"),
        ("logs", "print a job's output"),
        ("stop", "stop a job"),
    ):
        job = command(name, _jobs, does)
        job.set_defaults(action=name)
        if name != "jobs":
            job.add_argument("job", metavar="JOB", help="the job's id")
        job.add_argument("--address", required=True, metavar="URL", help="of the cluster's dashboard: http://HOST:8265")

    pareto = command("pareto", _pareto, "print the front of a search")
    why = command("why", _why, "tell what was decided about a trial, and by what comparison")
    export = command("export", _export, "write one trial as a complete config")
    ui = command("ui", _ui, "serve MLflow's page for a search on loopback")
    for result in (pareto, why, export, ui):
        result.add_argument("search", metavar="RUN", help="output folder or name of the search")
    pareto.add_argument("--json", action="store_true", help="print the front as JSON")
    pareto.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .html or .png")
    why.add_argument("trial", type=int, metavar="TRIAL", help="its number")
    why.add_argument("--json", action="store_true", help="print it as JSON")
    export.add_argument("--pick", required=True, metavar="WHICH", help="knee, best, trial=ID or gflops<=X")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.yaml", help="where to write the config")
    export.add_argument("--weights", type=Path, metavar="DIR", help="copy the trained weights there")
    ui.add_argument("--port", type=int, default=5000)

    test = command("test", _test, "score a checkpoint by the papers' protocols: many views, several models")
    train = command("train", _train, "train an exported config at full length")
    cost = command("cost", _cost, "print GFLOPs, parameters and memory of a config by stage")
    for config in (train, test, cost):
        config.add_argument("config", type=Path, metavar="CONFIG", help="the YAML file that `export` wrote")
        config.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")
    test.add_argument("--checkpoint", type=Path, required=True, metavar="F", help="weights: model.pt of a training")
    test.add_argument("--views", metavar="10x3", help="clips x crops of a video, averaged (default: as in the config)")
    test.add_argument(
        "--fuse", nargs="+", default=[], metavar="CONFIG=F", help="other models whose softmax is averaged with it"
    )
    test.add_argument("--out", type=Path, metavar="DIR", help="folder of the clip cache (default: as of `train`)")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    train.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/<name of CONFIG>)")
    train.add_argument("--workers", type=_count, default=1, metavar="N", help="how many share each batch")
    train.add_argument(
        "--cpus", type=_count, default=1, metavar="N", help="CPUs of a worker, which is its number of torch threads"
    )
    train.add_argument("--gpus", type=_share, default=0, metavar="X", help="GPUs of a worker")
    train.add_argument("--address", help="Ray cluster to train on (default: an own one)")
    train.add_argument(
        "--tracking", default="auto", metavar="URI", help="of MLflow (default: SQLite in the output folder)"
    )

    explain = command("explain", _explain, "draw what a trained model looks at in a video")
    explain.add_argument("config", type=Path, metavar="CONFIG", help="the YAML file of the model")
    explain.add_argument("--checkpoint", type=Path, required=True, metavar="F", help="its weights: a model.pt")
    explain.add_argument("video", type=Path, metavar="VIDEO")
    explain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the PNG files")
    explain.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")
    explain.add_argument(
        "--i3d", type=Path, nargs=2, metavar=("CONFIG", "F"), help="a model with I3D's 3x1x1, to draw beside TAM"
    )

    motion = command("motion", _motion, "generate the motion data set: 8 pairs of classes, each the other's reverse")
    motion.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    for field in ("train_clips", "val_clips", "test_clips"):
        motion.add_argument(f"--{field.replace('_', '-')}", type=int, metavar="N", help="clips of a class")
    motion.add_argument("--frames", type=int, metavar="N", help="frames of a clip")
    motion.add_argument("--size", type=int, metavar="N", help="side of a frame in pixels")
    motion.add_argument("--seed", type=int, metavar="N")

    ingest = command("ingest", _ingest, "decode a data set into the clip cache; an interrupted one goes on")
    ingest.add_argument("kind", metavar="KIND", help="of the data set, as data.kind in a spec")
    ingest.add_argument("root", metavar="ROOT", help="its folder as its owners publish it")
    ingest.add_argument("--out", type=Path, required=True, metavar="CACHE", help="folder of the cache, for data.cache")
    ingest.add_argument("--size", type=int, default=128, metavar="N", help="shorter side in pixels (default: 128)")
    ingest.add_argument("--frames", default="all", metavar="N", help="frames kept of a clip (default: all)")
    ingest.add_argument("--codec", default="raw", help="raw (reads fastest) or jpeg (a ninth of the size)")
    ingest.add_argument("--modality", default="rgb", help="rgb or flow")
    ingest.add_argument("--set", action="append", default=[], metavar="A.B=V", help="more of `data`: max_faults=10")
    ingest.add_argument("--jobs", type=int, metavar="N", help="files read at once (default: one a core)")
    ingest.add_argument(
        "--time-limit", type=float, default=600.0, metavar="S", help="seconds for a file (default: 600)"
    )
    ingest.add_argument("--address", help="Ray cluster that reads the files (default: this machine)")

    for name in PLANNED:
        later = commands.add_parser(name, add_help=False)
        later.set_defaults(run=_planned, name=name)
        later.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def _spec_file(name: str) -> Path:
    """Return the file of that name, or the ready spec: ``quickstart`` is spaces/library/quickstart.yaml."""
    import spaces

    ready = Path(spaces.__path__[0]) / "library" / f"{name}.yaml"
    return ready if not Path(name).exists() and Path(name).name == name and ready.is_file() else Path(name)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {number})")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {text})")
    return number


def _sets(arguments: Arguments) -> list[str]:
    """Return the changes of a spec that the command line asks for; ``--output`` is one of them."""
    return arguments.set + ([] if arguments.output is None else [f"output={json.dumps(arguments.output)}"])


def _planned(arguments: Arguments) -> None:
    raise ValueError(f"vattn {arguments.name}: not available yet")


def _check(arguments: Arguments) -> None:
    from search.ledger.events import parse_event
    from search.proposals.warm_start import read_sources
    from search.report.check import render
    from search.report.words import told_source
    from search.spec.check import check
    from search.spec.validation import load

    spec = load(arguments.spec, arguments.set)
    found, sources = check(spec), read_sources(spec)
    print(render(found))
    for source in sources:
        print(f"warm start     {told_source(parse_event({'event': 'warm_start', **source.event()}))}")


def _run(arguments: Arguments) -> int:
    from search.commands.run import run

    return run(arguments.spec, _sets(arguments), arguments.resume, arguments.address, arguments.json)


def _submit(arguments: Arguments) -> int:
    from search.commands.jobs import submit
    from search.spec.check import check
    from search.spec.validation import load

    # What is wrong is said here, not in a job's log; but for what only the cluster sees.
    spec = load(arguments.spec, _sets(arguments))
    root = spec.trial["data"].get("root", "auto")
    if root == "auto" or Path(root).exists():
        check(spec)
    else:
        print(f"data.root: {root} is not there on this machine: the job will check the limits", file=sys.stderr)
    return submit(arguments.spec, _sets(arguments), arguments.address, arguments.follow)


def _jobs(arguments: Arguments) -> int:
    from search.commands import jobs

    actions: dict[str, Callable[..., Any]] = {"jobs": jobs.jobs, "logs": jobs.logs, "stop": jobs.stop}
    return actions[arguments.action](arguments.address, *([] if arguments.action == "jobs" else [arguments.job]))


def _pareto(arguments: Arguments) -> None:
    from search.ledger.runs import open_run
    from search.report.confirmation import as_json, render
    from search.report.plot import draw

    history = open_run(arguments.search)
    objectives = history.objectives
    if arguments.plot:
        draw(history, objectives, arguments.plot)
    print(json.dumps(as_json(history, objectives), indent=2) if arguments.json else render(history, objectives))


def _why(arguments: Arguments) -> None:
    from search.ledger.file import NAME, read
    from search.ledger.runs import open_run, resolve_run
    from search.report.why.facts import answer
    from search.report.why.text import render

    open_run(arguments.search)
    found = answer(read(resolve_run(arguments.search) / NAME), arguments.trial)
    print(json.dumps(found, indent=2) if arguments.json else render(found))


def _export(arguments: Arguments) -> None:
    from search.commands.export import export

    export(arguments.search, arguments.pick, arguments.out, arguments.weights)


def _ui(arguments: Arguments) -> int:
    from search.report.tracking.server import serve

    return serve(arguments.search, arguments.port)


def _train(arguments: Arguments) -> None:
    from search.commands.train import train_file

    train_file(
        arguments.config, arguments.set, arguments.out, arguments.resume, arguments.tracking, arguments.address,
        arguments.workers, arguments.cpus, arguments.gpus,
    )  # fmt: skip


def _test(arguments: Arguments) -> None:
    from search.commands.test import score_files

    score_files(arguments.config, arguments.checkpoint, arguments.set, arguments.views, arguments.fuse, arguments.out)


def _cost(arguments: Arguments) -> None:
    from search.spec.validation import load_config
    from vattn.cost import render

    config = load_config(arguments.config, arguments.set)
    print(render(config.model, config.data.num_classes()))


def _explain(arguments: Arguments) -> None:
    from search.spec.validation import load_config
    from vattn.explain import explain, load_trained

    model = load_trained(load_config(arguments.config, arguments.set), arguments.checkpoint)
    beside = load_trained(load_config(arguments.i3d[0]), arguments.i3d[1]) if arguments.i3d else None
    for file in explain(model, arguments.video, arguments.out, beside):
        print(file)


def _motion(arguments: Arguments) -> None:
    from pydantic import ValidationError

    from search.report.progress import progress
    from search.spec.messages import problems
    from vattn.data.motion import MotionDataConfig, generate

    fields = ("train_clips", "val_clips", "test_clips", "frames", "size", "seed")
    given = {name: value for name in fields if (value := getattr(arguments, name)) is not None}
    try:
        config = MotionDataConfig.parse({"kind": "motion", **given})
    except ValidationError as error:
        found = problems(error, MotionDataConfig, given)
        raise ValueError("\n".join(f"vattn motion: --{problem}".replace("_", "-", 1) for problem in found)) from None
    generate(config, arguments.out, progress=progress)
    print(f"the motion set is in {arguments.out}")


def _ingest(arguments: Arguments) -> int:
    from search.commands.ingest import ingest_set

    store = {"size": arguments.size, "frames": arguments.frames, "codec": arguments.codec}
    return ingest_set(
        arguments.kind, arguments.root, arguments.out, store, arguments.modality, arguments.set,
        arguments.jobs, arguments.time_limit, arguments.address,
    )  # fmt: skip
