"""The command line `vattn`, also `python -m search`: parse the arguments and import the command that they name.

Exit status: 0 done; 1 failed while running; 2 invalid user input, one line for each problem; 130 interrupted.
"""

import argparse
import sys
import traceback
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import shtab

from vattn.errors import StorageError, UserError

#: names of commands that are not implemented yet
PLANNED = ("report", "compare", "predict", "latency")


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        return import_module(f"search.commands.{arguments.command}").run(arguments) or 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of standard output has closed it, as `head` does.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:
            traceback.print_exc()
            return 1
        # The operating system refused a file that the user named.
        print(f"{error.filename}: {(error.strerror or str(error)).lower()}; name another place", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the documentation is generated from it too."""
    parser = argparse.ArgumentParser(
        prog="vattn", description="Search the attention of video networks on a Ray cluster: accuracy against GFLOPs."
    )
    parser.add_argument("--version", action="version", version=f"vattn {metadata.version('vattn-search')}")
    shtab.add_argument_to(parser, "--print-completion", help="print the completion script of a shell, to be sourced")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_searches(commands)
    _add_jobs(commands)
    _add_results(commands)
    _add_models(commands)
    _add_data(commands)
    for name in PLANNED:
        planned = commands.add_parser(name, add_help=False)
        planned.set_defaults(command="planned", name=name)
        planned.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def _command(
    commands: "argparse._SubParsersAction", name: str, summary: str, module: str = ""
) -> argparse.ArgumentParser:
    """Add a command; return its parser. Its function ``run`` is in search/commands/, in ``module`` or else ``name``."""
    command = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(command=module or name)
    return command


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")


def _complete(argument: argparse.Action, completion: Any) -> None:
    """Let the shell complete an argument with names of files (`shtab.FILE`) or folders (`shtab.DIRECTORY`)."""
    setattr(argument, "complete", completion)  # noqa: B010  # shtab reads this attribute; argparse's types lack it


def _add_searches(commands: "argparse._SubParsersAction") -> None:
    check = _command(commands, "check", "validate a search spec, count its space, print its cost range and budget")
    run = _command(commands, "run", "run a search: the main job")
    submit = _command(commands, "submit", "run a search as a job of a Ray cluster")
    for command in (check, run, submit):
        spec = command.add_argument("spec", metavar="SPEC", help="YAML file, or a name from spaces/library")
        _complete(spec, shtab.FILE)
        _add_set(command)
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    for command in (run, submit):
        command.add_argument("--output", metavar="DIR", help="folder of the results (default: output of the spec)")
    run.add_argument("--resume", action="store_true", help="continue a search that was interrupted")
    run.add_argument("--address", help="Ray cluster to run on (default: the cluster of this job, else a new one)")
    run.add_argument("--json", action="store_true", help="print the result as JSON, and progress to stderr")
    submit.add_argument("--address", required=True, metavar="URL", help="the cluster's dashboard: http://HOST:8265")
    status = _command(commands, "status", "show the state of a search, its progress and what it waits for")
    named = status.add_argument(
        "search", metavar="RUN", nargs="?", help="output folder or name of the search (default: the last one in runs)"
    )
    _complete(named, shtab.DIRECTORY)
    status.add_argument("--watch", action="store_true", help="print each change until no process runs the search")
    status.add_argument("--json", action="store_true", help="print the state as JSON, one line for each look")
    listing = _command(commands, "list", "list all searches under a folder, or those that are jobs of a cluster")
    folder = listing.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="folder (default: runs)")
    _complete(folder, shtab.DIRECTORY)
    listing.add_argument("--address", metavar="URL", help="the dashboard of a cluster: http://HOST:8265")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    submit.add_argument("--follow", action="store_true", help="print the job's output until it ends")


def _add_jobs(commands: "argparse._SubParsersAction") -> None:
    for name, summary in (
        ("jobs", "list the jobs of a cluster"),
        ("logs", "print the output of a job"),
        ("stop", "stop a job"),
    ):
        job = _command(commands, name, summary, module="jobs")
        job.set_defaults(action=name)
        if name != "jobs":
            job.add_argument("job", metavar="JOB", help="id of the job")
        job.add_argument("--address", required=True, metavar="URL", help="the cluster's dashboard: http://HOST:8265")


def _add_results(commands: "argparse._SubParsersAction") -> None:
    pareto = _command(commands, "pareto", "print the front of a search")
    why = _command(commands, "why", "explain what was decided about a trial, and by which comparison")
    export = _command(commands, "export", "write one trial as a complete config")
    ui = _command(commands, "ui", "serve MLflow's page for a search on loopback")
    for command in (pareto, why, export, ui):
        run = command.add_argument("search", metavar="RUN", help="output folder or name of the search")
        _complete(run, shtab.DIRECTORY)
    pareto.add_argument("--json", action="store_true", help="print the front as JSON")
    pareto.add_argument("--plot", type=Path, metavar="FILE", help="draw the front, as .html or .png")
    why.add_argument("trial", type=int, metavar="TRIAL", help="number of the trial")
    why.add_argument("--json", action="store_true", help="print the answer as JSON")
    export.add_argument("--pick", required=True, metavar="WHICH", help="knee, best, trial=ID or gflops<=X")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.yaml", help="where to write the config")
    export.add_argument("--weights", type=Path, metavar="DIR", help="copy the trained weights to this folder")
    ui.add_argument("--port", type=int, default=5000, help="port on loopback (default: 5000)")


def _add_models(commands: "argparse._SubParsersAction") -> None:
    test = _command(commands, "test", "score a checkpoint by the papers' protocols: many views, several models")
    train = _command(commands, "train", "train an exported config at full length")
    cost = _command(commands, "cost", "print GFLOPs, parameters and memory of a config by stage")
    explain = _command(commands, "explain", "draw what a trained model looks at in a video")
    for command in (test, train, cost, explain):
        config = command.add_argument("config", type=Path, metavar="CONFIG", help="the YAML file that `export` wrote")
        _complete(config, shtab.FILE)
        _add_set(command)
    test.add_argument("--checkpoint", type=Path, required=True, metavar="F", help="weights: model.pt of a training")
    test.add_argument("--views", metavar="10x3", help="clips x crops of a video, averaged (default: as in the config)")
    test.add_argument(
        "--fuse",
        nargs="+",
        default=[],
        metavar="CONFIG=F",
        help="further models, whose softmax is averaged with this one's",
    )
    test.add_argument(
        "--split", choices=("test", "val"), default="test", help="clips to score: test (default), or val for validation"
    )
    test.add_argument("--out", type=Path, metavar="DIR", help="folder of the clip cache (default: that of `train`)")
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in the output folder")
    train.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/<name of CONFIG>)")
    train.add_argument(
        "--workers", type=_positive_int, default=1, metavar="N", help="number of workers, which share each batch"
    )
    train.add_argument(
        "--cpus", type=_positive_int, default=1, metavar="N", help="CPUs of a worker, also its number of torch threads"
    )
    train.add_argument("--gpus", type=_non_negative_float, default=0, metavar="X", help="GPUs of a worker")
    train.add_argument("--address", help="Ray cluster to train on (default: a new one on this machine)")
    train.add_argument(
        "--tracking", default="auto", metavar="URI", help="MLflow store (default: SQLite in the output folder)"
    )
    explain.add_argument("--checkpoint", type=Path, required=True, metavar="F", help="weights: model.pt of a training")
    explain.add_argument("video", type=Path, metavar="VIDEO")
    explain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the PNG files")
    explain.add_argument(
        "--i3d", type=Path, nargs=2, metavar=("CONFIG", "F"), help="a model with I3D's 3x1x1, drawn beside TAM"
    )


def _add_data(commands: "argparse._SubParsersAction") -> None:
    motion = _command(commands, "motion", "generate the motion data set: 8 pairs of classes, each the other's reverse")
    motion.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    for split in ("train", "val", "test"):
        motion.add_argument(f"--{split}-clips", type=int, metavar="N", help=f"clips of a class in the {split} split")
    motion.add_argument("--frames", type=int, metavar="N", help="frames of a clip")
    motion.add_argument("--size", type=int, metavar="N", help="side of a frame in pixels")
    motion.add_argument("--seed", type=int, metavar="N", help="seed of the generator")

    ingest = _command(commands, "ingest", "decode a data set into the clip cache; an interrupted run continues")
    ingest.add_argument("kind", metavar="KIND", help="kind of the data set, as data.kind in a spec")
    _complete(ingest.add_argument("root", metavar="ROOT", help="its folder, as its owners publish it"), shtab.DIRECTORY)
    ingest.add_argument(
        "--out", type=Path, required=True, metavar="CACHE", help="folder of the cache, as data.cache in a spec"
    )
    ingest.add_argument("--size", type=int, default=128, metavar="N", help="shorter side in pixels (default: 128)")
    ingest.add_argument("--frames", default="all", metavar="N", help="frames kept of a clip (default: all)")
    ingest.add_argument("--codec", default="raw", help="raw (reads fastest) or jpeg (a ninth of the size)")
    ingest.add_argument("--quality", type=int, default=90, metavar="Q", help="of codec jpeg (default: 90)")
    ingest.add_argument("--modality", default="rgb", help="rgb or flow")
    ingest.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="set a value of `data`: max_faults=10"
    )
    ingest.add_argument("--jobs", type=int, metavar="N", help="files decoded at once (default: one per core)")
    ingest.add_argument(
        "--time-limit", type=float, default=600.0, metavar="S", help="seconds allowed for a file (default: 600)"
    )
    ingest.add_argument("--address", help="Ray cluster that decodes the files (default: this machine)")
    ingest.add_argument("--json", action="store_true", help="print the result as JSON")


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {number})")
    return number


def _non_negative_float(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {text})")
    return number
