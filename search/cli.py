"""The command line `vattn`, also `python -m search`: parse the arguments and import the command that they name.

Exit status: 0 done; 1 failed while running; 2 invalid user input, one line for each problem; 130 interrupted.
"""

import argparse
import os
import sys
import traceback
from errno import EDQUOT, ENOSPC
from importlib import import_module, metadata

import shtab

from search.model_parser import add_models
from search.parser import (
    Parser,
    add_command,
    add_set,
    complete,
    non_negative_float,
    non_negative_int,
    positive_int,
    whole_number,
)
from vattn.errors import StorageError, UserError, shortened
from vattn.files import at_home


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status. Without a command, print what there is."""
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    arguments = parser.parse_args(argv)
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
        if error.errno in (ENOSPC, EDQUOT):
            place = f"{shortened(error.filename)}: " if error.filename else ""
            print(f"{place}{os.strerror(error.errno).lower()}; make room and call again", file=sys.stderr)
            return 1
        if error.filename is None:
            traceback.print_exc()
            return 1
        # The operating system refused a file that the user named.
        print(
            f"{shortened(error.filename)}: {(error.strerror or str(error)).lower()}; name another place",
            file=sys.stderr,
        )
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the documentation is generated from it too."""
    parser = Parser(
        prog="vattn", description="Search the attention of video networks on a Ray cluster: accuracy against GFLOPs.",
        epilog="Begin with: vattn check quickstart, then: vattn run quickstart",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"vattn {metadata.version('vattn-search')}")
    shtab.add_argument_to(parser, "--print-completion", help="print the completion script of a shell, to be sourced")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_searches(commands)
    _add_jobs(commands)
    _add_results(commands)
    add_models(commands)
    _add_data(commands)
    return parser


def _add_searches(commands: "argparse._SubParsersAction") -> None:
    check = add_command(commands, "check", "validate a search spec, count its space, print its cost range and budget")
    run = add_command(commands, "run", "run a search: the main job")
    submit = add_command(commands, "submit", "run a search as a job of a Ray cluster")
    for command in (check, run, submit):
        spec = command.add_argument("spec", metavar="SPEC", help="YAML file, or a name from spaces/library")
        complete(spec, shtab.FILE)
        add_set(command)
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    for command in (run, submit):
        command.add_argument("--output", metavar="DIR", help="folder of the results (default: output of the spec)")
        command.add_argument("--resume", action="store_true", help="continue a search that was interrupted")
    for command, usual in ((run, 0), (submit, 3)):
        command.add_argument(
            "--restarts",
            type=non_negative_int,
            default=usual,
            metavar="N",
            help="continue in a new process when that of the search was killed, unless N + 1 in a row make no progress "
            f"(default: {usual})",
        )
    run.add_argument("--address", help="Ray cluster to run on (default: the cluster of this job, else a new one)")
    run.add_argument("--json", action="store_true", help="print the result as JSON, and progress to stderr")
    submit.add_argument("--address", required=True, metavar="URL", help="the cluster's dashboard: http://HOST:8265")
    status = add_command(commands, "status", "show the state of a search, its progress and what it waits for")
    named = status.add_argument(
        "search", metavar="RUN", nargs="?", help="output folder or name of the search (default: the last one in runs)"
    )
    complete(named, shtab.DIRECTORY)
    status.add_argument("--watch", action="store_true", help="print each change until no process runs the search")
    status.add_argument("--json", action="store_true", help="print the state as JSON, one line for each look")
    listing = add_command(commands, "list", "list all searches under a folder, or those that are jobs of a cluster")
    folder = listing.add_argument("folder", metavar="FOLDER", nargs="?", type=at_home, help="folder (default: runs)")
    complete(folder, shtab.DIRECTORY)
    listing.add_argument("--address", metavar="URL", help="the dashboard of a cluster: http://HOST:8265")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    submit.add_argument("--follow", action="store_true", help="print the job's output until it ends")


def _add_jobs(commands: "argparse._SubParsersAction") -> None:
    for name, summary in (
        ("jobs", "list the jobs of a cluster"),
        ("logs", "print the output of a job"),
        ("stop", "stop a job"),
    ):
        job = add_command(commands, name, summary, module="jobs")
        job.set_defaults(action=name)
        if name != "jobs":
            job.add_argument("job", metavar="JOB", help="id of the job")
        job.add_argument("--address", required=True, metavar="URL", help="the cluster's dashboard: http://HOST:8265")


def _add_results(commands: "argparse._SubParsersAction") -> None:
    pareto = add_command(commands, "pareto", "print the front of a search")
    why = add_command(commands, "why", "explain what was decided about a trial, and by which comparison")
    export = add_command(commands, "export", "write one trial as a complete config")
    report = add_command(commands, "report", "write or serve the page that explains a search")
    ui = add_command(commands, "ui", "serve MLflow's page for a search on loopback")
    repair = add_command(commands, "repair", "show the damaged end of a search's ledger, and cut it off")
    for command in (pareto, why, export, report, ui, repair):
        run = command.add_argument("search", metavar="RUN", help="output folder or name of the search")
        complete(run, shtab.DIRECTORY)
    pareto.add_argument("--json", action="store_true", help="print the front as JSON")
    pareto.add_argument("--plot", type=at_home, metavar="FILE", help="draw the front, as .html or .png")
    why.add_argument("trial", type=whole_number, metavar="TRIAL", help="number of the trial")
    why.add_argument("--json", action="store_true", help="print the answer as JSON")
    export.add_argument("--pick", metavar="WHICH", help="knee, best, trial=ID or gflops<=X")
    export.add_argument("--out", type=at_home, metavar="FILE.yaml", help="where to write the config")
    export.add_argument("--weights", type=at_home, metavar="DIR", help="copy the trained weights to this folder")
    export.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="full length of the training: epochs in the schedule and the warm-up grow in proportion",
    )
    export.add_argument("--force", action="store_true", help="overwrite files that exist and differ")
    export.add_argument("--onnx", type=at_home, metavar="FILE.onnx", help="write the model as ONNX, and check it")
    export.add_argument("--torch-export", type=at_home, metavar="FILE.pt2", help="write it by torch.export, checked")
    export.add_argument("--card", type=at_home, metavar="DIR", help="folder for the model with its card, README.md")
    export.add_argument("--register", metavar="NAME", help="register the model in MLflow")
    export.add_argument(
        "--tracking", default="auto", metavar="URI", help="MLflow store of --register (default: models.db beside it)"
    )
    export.add_argument(
        "--clips", type=at_home, nargs="+", default=[], metavar="VIDEO", help="real videos on which the model is "
        "checked (default: two of the validation split)",
    )  # fmt: skip
    report.add_argument("--out", type=at_home, metavar="FILE.html", help="write the page, one file without network")
    report.add_argument("--tables", type=at_home, metavar="DIR", help="write its tables as CSV and LaTeX")
    report.add_argument(
        "--tests", type=at_home, nargs="+", metavar="FILE", help="results clip by clip, in Parquet: accuracy by class, "
        "and by length (default: tests/*.parquet in the folder of the search)",
    )  # fmt: skip
    report.add_argument(
        "--serve", action="store_true", help="serve the page on loopback, up to date while a search runs"
    )
    report.add_argument("--port", type=whole_number, default=8050, help="port on loopback (default: 8050)")
    ui.add_argument("--port", type=whole_number, default=5000, help="port on loopback (default: 5000)")
    ui.add_argument("--tracking", metavar="URI", help="MLflow store, where the search wrote to one of its own choice")
    repair.add_argument("--yes", action="store_true", help="cut it off; the rest is kept in another file")


def _add_data(commands: "argparse._SubParsersAction") -> None:
    motion = add_command(
        commands, "motion", "generate the motion data set: 8 pairs of classes, each the other's reverse"
    )
    motion.add_argument("out", type=at_home, metavar="OUT", help="folder to write to")
    for split in ("train", "val", "test"):
        motion.add_argument(
            f"--{split}-clips", type=whole_number, metavar="N", help=f"clips of a class in the {split} split"
        )
    motion.add_argument("--frames", type=whole_number, metavar="N", help="frames of a clip")
    motion.add_argument("--size", type=whole_number, metavar="N", help="side of a frame in pixels")
    motion.add_argument("--seed", type=whole_number, metavar="N", help="seed of the generator")

    ingest = add_command(commands, "ingest", "decode a data set into the clip cache; an interrupted run continues")
    ingest.add_argument("kind", metavar="KIND", help="kind of the data set, as data.kind in a spec")
    complete(ingest.add_argument("root", metavar="ROOT", help="its folder, as its owners publish it"), shtab.DIRECTORY)
    ingest.add_argument(
        "--out",
        type=at_home,
        required=True,
        metavar="CACHE",
        help="folder of the cache, as data.cache in a spec; with --flow, of the images",
    )
    ingest.add_argument(
        "--size", type=whole_number, metavar="N", help="shorter side in pixels (default: 128, of flow 256)"
    )
    ingest.add_argument("--frames", default="all", metavar="N", help="frames kept of a clip (default: all)")
    ingest.add_argument("--codec", default="raw", help="raw (reads fastest) or jpeg (a ninth of the size)")
    ingest.add_argument(
        "--quality", type=whole_number, default=90, metavar="Q", help="of codec jpeg and of flow (default: 90)"
    )
    ingest.add_argument("--modality", default="rgb", help="rgb or flow")
    ingest.add_argument(
        "--flow",
        choices=("tvl1", "raft"),
        help="compute optical flow, as folders of images with lists for kind: list, instead of decoding into a cache: "
        "tvl1 by OpenCV (the extra flow), raft by torchvision",
    )
    ingest.add_argument(
        "--flow-weights", type=at_home, metavar="F", help="weights of raft, as torchvision publishes them"
    )
    ingest.add_argument(
        "--set", action="append", default=[], metavar="A.B=V", help="set a value of `data`: max_faults=10"
    )
    ingest.add_argument("--jobs", type=whole_number, metavar="N", help="files decoded at once (default: one per core)")
    ingest.add_argument(
        "--time-limit",
        type=non_negative_float,
        default=600.0,
        metavar="S",
        help="seconds allowed for a file (default: 600)",
    )
    ingest.add_argument("--address", help="Ray cluster that decodes the files (default: this machine)")
    ingest.add_argument("--json", action="store_true", help="print the result as JSON")
