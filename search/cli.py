"""The command line `vattn`, also `python -m search`: parse the arguments and import the command that they name.

Exit status: 0 done; 1 failed while running; 2 invalid user input, one line for each problem; 130 interrupted.
"""

import argparse
import sys
import traceback
from importlib import import_module, metadata
from typing import Any

import shtab

from vattn.errors import StorageError, UserError, shortened
from vattn.files import at_home

#: names of commands that are not implemented yet
PLANNED = ("latency",)


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
    parser = argparse.ArgumentParser(
        prog="vattn", description="Search the attention of video networks on a Ray cluster: accuracy against GFLOPs."
    )
    parser.add_argument("--version", action="version", version=f"vattn {metadata.version('vattn-search')}")
    shtab.add_argument_to(parser, "--print-completion", help="print the completion script of a shell, to be sourced")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_searches(commands)
    _add_jobs(commands)
    _add_results(commands)
    _add_comparison(commands)
    _add_models(commands)
    _add_prediction(commands)
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
    folder = listing.add_argument("folder", metavar="FOLDER", nargs="?", type=at_home, help="folder (default: runs)")
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
    report = _command(commands, "report", "write or serve the page that explains a search")
    ui = _command(commands, "ui", "serve MLflow's page for a search on loopback")
    repair = _command(commands, "repair", "show the damaged end of a search's ledger, and cut it off")
    for command in (pareto, why, export, report, ui, repair):
        run = command.add_argument("search", metavar="RUN", help="output folder or name of the search")
        _complete(run, shtab.DIRECTORY)
    pareto.add_argument("--json", action="store_true", help="print the front as JSON")
    pareto.add_argument("--plot", type=at_home, metavar="FILE", help="draw the front, as .html or .png")
    why.add_argument("trial", type=int, metavar="TRIAL", help="number of the trial")
    why.add_argument("--json", action="store_true", help="print the answer as JSON")
    export.add_argument("--pick", metavar="WHICH", help="knee, best, trial=ID or gflops<=X")
    export.add_argument("--out", type=at_home, metavar="FILE.yaml", help="where to write the config")
    export.add_argument("--weights", type=at_home, metavar="DIR", help="copy the trained weights to this folder")
    export.add_argument(
        "--epochs",
        type=_positive_int,
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
    report.add_argument("--port", type=int, default=8050, help="port on loopback (default: 8050)")
    ui.add_argument("--port", type=int, default=5000, help="port on loopback (default: 5000)")
    ui.add_argument("--tracking", metavar="URI", help="MLflow store, where the search wrote to one of its own choice")
    repair.add_argument("--yes", action="store_true", help="cut it off; the rest is kept in another file")


def _add_comparison(commands: "argparse._SubParsersAction") -> None:
    compare = _command(commands, "compare", "compare two models: clip by clip, or by config, cost and accuracy")
    compare.add_argument(
        "what", nargs="+", metavar="WHAT", help="two FILE.parquet of `vattn test --out`; RUN TRIAL TRIAL; two output "
        "folders of `vattn train`; or two configs",
    )  # fmt: skip
    compare.add_argument(
        "--out", type=at_home, metavar="DIR", help="of two tests: folder for tables (CSV) and clips in which they "
        "differ (PNG)",
    )  # fmt: skip
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")


def _add_models(commands: "argparse._SubParsersAction") -> None:
    test = _command(commands, "test", "score a checkpoint by the papers' protocols: many views, several models")
    train = _command(commands, "train", "train an exported config at full length")
    cost = _command(commands, "cost", "print GFLOPs, parameters and memory of a config by stage")
    explain = _command(commands, "explain", "draw what a trained model looks at in a video")
    for command in (test, train, cost, explain):
        meaning = "the YAML file that `export` wrote"
        if command is not train:
            meaning += ", or a trained model, model.safetensors"
        if command is not explain:
            meaning += ", or a recipe's name from spaces/library/recipes"
        config = command.add_argument("config", type=at_home, metavar="CONFIG", help=meaning)
        _complete(config, shtab.FILE)
        _add_set(command)
        if command is not explain:
            root = command.add_argument("--data", metavar="ROOT", help="folder of the data set's files: data.root")
            _complete(root, shtab.DIRECTORY)
    for command in (test, explain):
        command.add_argument(
            "--checkpoint", type=at_home, metavar="F", help="weights: model.pt of a training (default: those "
            "of CONFIG, if it is a trained model)",
        )  # fmt: skip
    test.add_argument("--views", metavar="10x3", help="clips x crops of a video, averaged (default: as in the config)")
    test.add_argument(
        "--fuse",
        nargs="+",
        default=[],
        metavar="CONFIG=F",
        help="further models, whose scores are averaged with this one's",
    )
    test.add_argument(
        "--fuse-weights",
        type=_non_negative_float,
        nargs="+",
        default=[],
        metavar="W",
        help="weight of each model in the average: of CONFIG, then of each of --fuse (default: all are equal)",
    )
    test.add_argument(
        "--average",
        choices=("auto", "softmax", "logits"),
        default="auto",
        help="what is averaged over views and models: softmax; logits, as in the code of MARS; auto (default): softmax "
        "over models, and over views what the protocol of the config averages",
    )
    test.add_argument(
        "--split", choices=("test", "val"), default="test", help="clips to score: test (default), or val for validation"
    )
    test.add_argument(
        "--frames", choices=("normal", "shuffled", "frozen"), nargs="+", default=["normal"], help="order of the "
        "frames, each one a test: shuffled and frozen ones show how far a model uses the order",
    )  # fmt: skip
    test.add_argument(
        "--out", type=at_home, metavar="DIR", help="folder, or FILE.parquet, for results clip by clip (Parquet), "
        "accuracy by class (CSV) and the confusion of classes (PNG)",
    )  # fmt: skip
    cache = test.add_argument("--cache", type=at_home, metavar="DIR", help="folder of the clip cache: data.cache")
    _complete(cache, shtab.DIRECTORY)
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue from the checkpoint in the output folder; --set train.epochs=N gives it another length",
    )
    train.add_argument(
        "--out",
        type=at_home,
        metavar="DIR",
        help="output folder (default: runs/<name of CONFIG>; of a config.yaml in such a folder, that folder)",
    )
    train.add_argument(
        "--force", action="store_true", help="train although data or code differ from those of the export"
    )
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
    convert = _command(commands, "convert", "bring published weights to the names here; say what was taken and left")
    _complete(
        convert.add_argument("file", type=at_home, metavar="FILE", help="weights as they were published"), shtab.FILE
    )
    convert.add_argument(
        "--out", type=at_home, required=True, metavar="F", help="file to write: F.safetensors, or F.pt"
    )
    convert.add_argument(
        "--config", type=at_home, metavar="CONFIG", help="config with the network (default: inferred from the weights)"
    )
    explain.add_argument("videos", type=at_home, nargs="+", metavar="VIDEO", help="a video or a folder of images")
    explain.add_argument("--out", type=at_home, required=True, metavar="DIR", help="folder for the PNG and MP4 files")
    explain.add_argument(
        "--truth", nargs="+", default=[], metavar="CLASS", help="class of each video (default: by the lists of the "
        "data set, or the name of its folder)",
    )  # fmt: skip
    explain.add_argument(
        "--i3d", type=at_home, nargs=2, metavar=("CONFIG", "F"), help="a model with I3D's 3x1x1, drawn beside TAM"
    )


def _add_prediction(commands: "argparse._SubParsersAction") -> None:
    predict = _command(commands, "predict", "print the classes of videos by a trained model; no data set is needed")
    model = predict.add_argument(
        "model", type=at_home, metavar="MODEL", help="model.safetensors, or the output folder of a training"
    )
    _complete(model, shtab.FILE)
    videos = predict.add_argument(
        "videos", type=at_home, nargs="+", default=[], metavar="VIDEO", help="a video, or a folder of images"
    )
    _complete(videos, shtab.FILE)
    predict.add_argument("--json", action="store_true", help="print one line of JSON for each video")
    predict.add_argument("--top", type=_positive_int, default=5, metavar="N", help="number of classes (default: 5)")
    predict.add_argument("--views", metavar="10x3", help="clips x crops of a video (default: as in the config)")
    watch = predict.add_argument(
        "--watch", type=at_home, metavar="FOLDER", action=_instead_of(videos), help="go on with each video that "
        "appears in a folder",
    )  # fmt: skip
    _complete(watch, shtab.DIRECTORY)


def _instead_of(positional: argparse.Action) -> type[argparse.Action]:
    """Return an action of an option that stores its value, after which the ``positional`` may be left out.

    With ``nargs="*"`` words after an option would not be taken for it.
    """

    class InsteadOf(argparse.Action):
        def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
            setattr(namespace, self.dest, values)
            positional.required = False

    return InsteadOf


def _add_data(commands: "argparse._SubParsersAction") -> None:
    motion = _command(commands, "motion", "generate the motion data set: 8 pairs of classes, each the other's reverse")
    motion.add_argument("out", type=at_home, metavar="OUT", help="folder to write to")
    for split in ("train", "val", "test"):
        motion.add_argument(f"--{split}-clips", type=int, metavar="N", help=f"clips of a class in the {split} split")
    motion.add_argument("--frames", type=int, metavar="N", help="frames of a clip")
    motion.add_argument("--size", type=int, metavar="N", help="side of a frame in pixels")
    motion.add_argument("--seed", type=int, metavar="N", help="seed of the generator")

    ingest = _command(commands, "ingest", "decode a data set into the clip cache; an interrupted run continues")
    ingest.add_argument("kind", metavar="KIND", help="kind of the data set, as data.kind in a spec")
    _complete(ingest.add_argument("root", metavar="ROOT", help="its folder, as its owners publish it"), shtab.DIRECTORY)
    ingest.add_argument(
        "--out",
        type=at_home,
        required=True,
        metavar="CACHE",
        help="folder of the cache, as data.cache in a spec; with --flow, of the images",
    )
    ingest.add_argument("--size", type=int, metavar="N", help="shorter side in pixels (default: 128, of flow 256)")
    ingest.add_argument("--frames", default="all", metavar="N", help="frames kept of a clip (default: all)")
    ingest.add_argument("--codec", default="raw", help="raw (reads fastest) or jpeg (a ninth of the size)")
    ingest.add_argument("--quality", type=int, default=90, metavar="Q", help="of codec jpeg and of flow (default: 90)")
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
