"""`vattn explain`: draw what a trained model looks at in videos."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch

from search.commands._spec import checkpoint_of
from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.errors import UserError
from vattn.explain import Trained, explain, load_trained
from vattn.explain.detection import explain_detection
from vattn.files import at_home
from vattn.trained import load_any
from vattn.trained.file import is_model


def run(arguments: Namespace) -> None:
    """Draw the pictures and print the names of their files."""
    checkpoint = checkpoint_of(arguments)
    config = load_config(arguments.config, arguments.set)
    if is_model(arguments.config) and checkpoint == arguments.config and not arguments.set:
        model = load_any(arguments.config, torch.device("cpu")).trained
    else:
        model = load_trained(config, checkpoint)
    if config.task == "detection":
        if len(arguments.videos) > 1:
            raise UserError("must be one, as the model is a detector", path="VIDEO", found=len(arguments.videos))
        for file in explain_detection(model, arguments.videos[0], arguments.out):
            print(file)
        return
    comparison = load_trained(load_config(arguments.i3d[0]), arguments.i3d[1]) if arguments.i3d else None
    truths = _truths(model, arguments.videos, arguments.truth)
    for file in explain(model, arguments.videos, arguments.out, comparison, truths):
        print(file)


def _truths(model: Trained, videos: Sequence[Path], given: Sequence[str]) -> list[str | None]:
    """Return the class of each video: as given, by the lists of its data set, or the name of its folder."""
    if given:
        if len(given) not in (1, len(videos)):
            raise UserError(
                f"must be one, or one for each of the {len(videos)} videos", path="--truth", found=len(given)
            )
        return [*given] if len(given) == len(videos) else [given[0]] * len(videos)
    listed = _listed(model.config, videos, model.labels)
    names = [listed.get(video, video.absolute().parent.name) for video in videos]
    return [name if name in model.labels else None for name in names]


def _listed(config: TrialConfig, videos: Sequence[Path], labels: Sequence[str]) -> dict[Path, str]:
    """Return the classes of the videos that lie below the root of the data set, by its lists."""
    root = at_home(config.data.root).absolute()
    inside: dict[str, Path] = {
        path.relative_to(root).as_posix(): video
        for video in videos
        if config.data.root != "auto" and (path := video.absolute()).is_relative_to(root)
    }
    if not inside:
        return {}
    try:
        manifest = config.data.each_split()[0].manifest(root)
    except UserError:
        return {}
    rows = zip(manifest["path"].to_pylist(), manifest["label"].to_pylist(), strict=True)
    return {inside[str(path)]: str(labels[label]) for path, label in rows if path in inside}
