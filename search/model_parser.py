"""The arguments of the commands on one model: compare, test, train, cost, explain, convert, latency, predict."""

import argparse
from typing import Any

import shtab

from search.parser import add_command, add_set, complete, non_negative_float, positive_int, worker_range
from vattn.files import at_home


def add_models(commands: "argparse._SubParsersAction") -> None:
    """Add these commands."""
    _add_comparison(commands)
    _add_training(commands)
    _add_latency(commands)
    _add_prediction(commands)


def _add_comparison(commands: "argparse._SubParsersAction") -> None:
    compare = add_command(commands, "compare", "compare two models: clip by clip, or by config, cost and accuracy")
    compare.add_argument(
        "what", nargs="+", metavar="WHAT", help="two FILE.parquet of `vattn test --out`; RUN TRIAL TRIAL; two output "
        "folders of `vattn train`; or two configs",
    )  # fmt: skip
    compare.add_argument(
        "--out", type=at_home, metavar="DIR", help="of two tests: folder for tables (CSV) and clips in which they "
        "differ (PNG)",
    )  # fmt: skip
    compare.add_argument("--json", action="store_true", help="print the comparison as JSON")


def _add_training(commands: "argparse._SubParsersAction") -> None:
    test = add_command(commands, "test", "score a checkpoint by the papers' protocols: many views, several models")
    train = add_command(commands, "train", "train an exported config at full length")
    cost = add_command(commands, "cost", "print GFLOPs, parameters and memory of a config by stage")
    explain = add_command(commands, "explain", "draw what a trained model looks at in a video")
    for command in (test, train, cost, explain):
        meaning = "the YAML file that `export` wrote"
        if command is not train:
            meaning += ", or a trained model, model.safetensors"
        if command is not explain:
            meaning += ", or a recipe's name from spaces/library/recipes"
        config = command.add_argument("config", type=at_home, metavar="CONFIG", help=meaning)
        complete(config, shtab.FILE)
        add_set(command)
        if command is not explain:
            root = command.add_argument("--data", metavar="ROOT", help="folder of the data set's files: data.root")
            complete(root, shtab.DIRECTORY)
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
        type=non_negative_float,
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
    complete(cache, shtab.DIRECTORY)
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
        "--workers",
        type=worker_range,
        default=(1, 1),
        metavar="N",
        help="number of workers, which share each batch; 2-8: as many as there is room for, which changes "
        "when nodes join or leave",
    )
    train.add_argument(
        "--cpus", type=positive_int, default=1, metavar="N", help="CPUs of a worker, also its number of torch threads"
    )
    train.add_argument("--gpus", type=non_negative_float, default=0, metavar="X", help="GPUs of a worker")
    train.add_argument("--address", help="Ray cluster to train on (default: a new one on this machine)")
    train.add_argument(
        "--tracking", default="auto", metavar="URI", help="MLflow store (default: SQLite in the output folder)"
    )
    convert = add_command(commands, "convert", "bring published weights to the names here; say what was taken and left")
    complete(
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


def _add_latency(commands: "argparse._SubParsersAction") -> None:
    latency = add_command(commands, "latency", "measure the time of a forward pass of a config or a search's front")
    what = latency.add_argument(
        "what", metavar="RUN|CONFIG", help="output folder or name of a search, or a config: the YAML file that "
        "`export` wrote, a model.safetensors, or a recipe's name",
    )  # fmt: skip
    complete(what, shtab.FILE)
    latency.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (default: cpu)")
    latency.add_argument(
        "--batch", type=positive_int, default=8, metavar="N", help="clips at once, besides 1 (default: 8)"
    )
    latency.add_argument(
        "--threads", type=positive_int, metavar="N", help="threads on a CPU (default: as many as torch takes)"
    )
    latency.add_argument(
        "--modes", nargs="+", choices=("eager", "compiled", "onnx"), default=["eager", "onnx"], metavar="MODE",
        help="eager, compiled (torch.compile, which may take minutes), onnx (ONNX Runtime); default: eager onnx",
    )  # fmt: skip
    add_set(latency)
    root = latency.add_argument("--data", metavar="ROOT", help="folder of the data set's files: data.root")
    complete(root, shtab.DIRECTORY)
    latency.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_prediction(commands: "argparse._SubParsersAction") -> None:
    predict = add_command(
        commands,
        "predict",
        "print the classes of videos, or the segments of their actions, by a trained model; no data set is needed",
    )
    model = predict.add_argument(
        "model", type=at_home, metavar="MODEL", help="model.safetensors, or the output folder of a training"
    )
    complete(model, shtab.FILE)
    videos = predict.add_argument(
        "videos", type=at_home, nargs="+", default=[], metavar="VIDEO", help="a video, or a folder of images"
    )
    complete(videos, shtab.FILE)
    predict.add_argument("--json", action="store_true", help="print one line of JSON for each video")
    predict.add_argument(
        "--top", type=positive_int, default=5, metavar="N", help="number of classes or segments (default: 5)"
    )
    predict.add_argument(
        "--out", type=at_home, metavar="DIR", help="of a detector: write each video with its segments as bars (MP4), "
        "their time line (PNG), and all of them (JSON), to a folder here",
    )  # fmt: skip
    predict.add_argument("--views", metavar="10x3", help="clips x crops of a video (default: as in the config)")
    watch = predict.add_argument(
        "--watch", type=at_home, metavar="FOLDER", action=_instead_of(videos), help="go on with each video that "
        "appears in a folder",
    )  # fmt: skip
    complete(watch, shtab.DIRECTORY)


def _instead_of(positional: argparse.Action) -> type[argparse.Action]:
    """Return an action of an option that stores its value, after which the ``positional`` may be left out.

    With ``nargs="*"`` words after an option would not be taken for it.
    """

    class InsteadOf(argparse.Action):
        def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
            setattr(namespace, self.dest, values)
            positional.required = False

    return InsteadOf
