"""The command line of `vattn`, which is `python -m search`: parses arguments, and imports a command when it is called.

Exit status: 0 done; 1 failed while running; 2 the user's input is wrong, one line for each problem; 130 interrupted.
"""

import argparse
import sys
import traceback
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import shtab

from vattn.errors import StorageError, UserError

#: commands of the interface that are not built yet
PLANNED = ("report", "compare", "predict", "latency")


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = _parser().parse_args(argv)
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
        # The reader of our output has closed it, as `head` does.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:
            traceback.print_exc()
            return 1
        # The system names a file that a user named.
        print(f"{error.filename}: {(error.strerror or str(error)).lower()}; name another place", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def _parser() -> argparse.ArgumentParser:
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


def _command(commands: "argparse._SubParsersAction", name: str, does: str, module: str = "") -> argparse.ArgumentParser:
    """Add a command whose ``run`` is in search/commands/``module``.py; return its parser."""
    added = commands.add_parser(name, help=does, description=does)
    added.set_defaults(command=module or name)
    return added


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")


def _complete(argument: argparse.Action, what: Any) -> None:
    """Let a shell complete an argument by the names of files or folders."""
    setattr(argument, "complete", what)  # noqa: B010  # shtab's interface, which argparse's types do not know


def _add_searches(commands: "argparse._SubParsersAction") -> None:
    check = _command(commands, "check", "validate a search spec, count its space, print its cost range and budget")
    run = _command(commands, "run", "run a search: the main job")
    submit = _command(commands, "submit", "run a search as a job of a Ray cluster")
    for command in (check, run, submit):
        spec = command.add_argument("spec", metavar="SPEC", help="YAML file, or a name from spaces/library")
        _complete(spec, shtab.FILE)
        _add_set(command)
    for command in (run, submit):
        command.add_argument("--output", metavar="DIR", help="folder of the results (default: the spec's)")
    run.add_argument("--resume", action="store_true", help="continue a search that was interrupted")
    run.add_argument("--address", help="Ray cluster to run on (default: the one this is a job of, else a new one)")
    run.add_argument("--json", action="store_true", help="print the result as JSON, and progress to stderr")
    submit.add_argument("--address", required=True, metavar="URL", help="of the cluster's dashboard: http://HOST:8265")
    submit.add_argument("--follow", action="store_true", help="print the job's output until it ends")


def _add_jobs(commands: "argparse._SubParsersAction") -> None:
    for name, does in (
        ("jobs", "list the jobs of a cluster"),
        ("logs", "print the output of a job"),
        ("stop", "stop a job"),
    ):
        job = _command(commands, name, does, module="jobs")
        job.set_defaults(action=name)
        if name != "jobs":
            job.add_argument("job", metavar="JOB", help="the id of the job")
        job.add_argument("--address", required=True, metavar="URL", help="of the cluster's dashboard: http://HOST:8265")


def _add_results(commands: "argparse._SubParsersAction") -> None:
    pareto = _command(commands, "pareto", "print the front of a search")
    why = _command(commands, "why", "explain what was decided about a trial, and by which comparison")
    export = _command(commands, "export", "write one trial as a complete config")
    ui = _command(commands, "ui", "serve MLflow's page for a search on loopback")
    for command in (pareto, why, export, ui):
        run = command.add_argument("search", metavar="RUN", help="output folder or name of the search")
        _complete(run, shtab.DIRECTORY)
    pareto.add_argument("--json", action="store_true", help="print the front as JSON")
    pareto.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .html or .png")
    why.add_argument("trial", type=int, metavar="TRIAL", help="its number")
    why.add_argument("--json", action="store_true", help="print it as JSON")
    export.add_argument("--pick", required=True, metavar="WHICH", help="knee, best, trial=ID or gflops<=X")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.yaml", help="where to write the config")
    export.add_argument("--weights", type=Path, metavar="DIR", help="copy the trained weights there")
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
        "--fuse", nargs="+", default=[], metavar="CONFIG=F", help="other models whose softmax is averaged with it"
    )
    test.add_argument("--out", type=Path, metavar="DIR", help="folder of the clip cache (default: as of `train`)")
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in the output folder")
    train.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: runs/<name of CONFIG>)")
    train.add_argument("--workers", type=_count, default=1, metavar="N", help="how many workers share each batch")
    train.add_argument(
        "--cpus", type=_count, default=1, metavar="N", help="CPUs of a worker, which is its number of torch threads"
    )
    train.add_argument("--gpus", type=_amount, default=0, metavar="X", help="GPUs of a worker")
    train.add_argument("--address", help="Ray cluster to train on (default: a new one on this machine)")
    train.add_argument(
        "--tracking", default="auto", metavar="URI", help="of MLflow (default: SQLite in the output folder)"
    )
    explain.add_argument("--checkpoint", type=Path, required=True, metavar="F", help="its weights: a model.pt")
    explain.add_argument("video", type=Path, metavar="VIDEO")
    explain.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the PNG files")
    explain.add_argument(
        "--i3d", type=Path, nargs=2, metavar=("CONFIG", "F"), help="a model with I3D's 3x1x1, to draw beside TAM"
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
    ingest.add_argument("kind", metavar="KIND", help="of the data set, as data.kind in a spec")
    _complete(ingest.add_argument("root", metavar="ROOT", help="its folder as its owners publish it"), shtab.DIRECTORY)
    ingest.add_argument("--out", type=Path, required=True, metavar="CACHE", help="folder of the cache, for data.cache")
    ingest.add_argument("--size", type=int, default=128, metavar="N", help="shorter side in pixels (default: 128)")
    ingest.add_argument("--frames", default="all", metavar="N", help="frames kept of a clip (default: all)")
    ingest.add_argument("--codec", default="raw", help="raw (reads fastest) or jpeg (a ninth of the size)")
    ingest.add_argument("--modality", default="rgb", help="rgb or flow")
    ingest.add_argument("--set", action="append", default=[], metavar="A.B=V", help="more of `data`: max_faults=10")
    ingest.add_argument("--jobs", type=int, metavar="N", help="files read at once (default: one for each core)")
    ingest.add_argument(
        "--time-limit", type=float, default=600.0, metavar="S", help="seconds for a file (default: 600)"
    )
    ingest.add_argument("--address", help="Ray cluster that reads the files (default: this machine)")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {number})")
    return number


def _amount(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {text})")
    return number
