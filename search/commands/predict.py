"""`vattn predict`: the classes of videos by a trained model, which needs no data set."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from search.commands._spec import parse_views
from vattn.data.decode import is_litter
from vattn.data.names import VIDEOS
from vattn.errors import UserError
from vattn.trained import TrainedModel, load

#: seconds between two looks at a folder; a file that did not change between them is complete
INTERVAL = 1.0


def run(arguments: Namespace) -> int:
    """Print the classes of each video; return 2 if one could not be read."""
    if not arguments.videos and arguments.watch is None:
        raise UserError("needs videos", file="vattn predict", way_out="name some, or a folder with --watch")
    if arguments.watch is not None and not arguments.watch.is_dir():
        raise UserError("must be a folder", path="--watch", found=arguments.watch)
    model = load(arguments.model)
    if arguments.views is not None:
        model = model.with_views(**parse_views(arguments.views))
    status = 0
    for video in arguments.videos:
        status = max(status, _print(model, video, arguments.top, arguments.json))
    if arguments.watch is not None:
        for video in arrivals(arguments.watch):
            _print(model, video, arguments.top, arguments.json)
    return status


def _print(model: TrainedModel, video: Path, top: int, as_json: bool) -> int:
    try:
        predictions = model(video, top)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    if as_json:
        tree = {"video": str(video), "predictions": [each._asdict() for each in predictions]}
        print(json.dumps(tree), flush=True)
    else:
        print(f"{video}: {', '.join(f'{each.label} {each.probability:.1%}' for each in predictions)}", flush=True)
    return 0


def arrivals(folder: Path, interval: float = INTERVAL) -> Iterator[Path]:
    """Yield each video of a folder as soon as it is complete, in the order of their names, and wait for more.

    A file that is replaced by another one is yielded again.
    """
    seen: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    while True:
        present: dict[Path, tuple[int, int]] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in VIDEOS and not is_litter(file.name):
                try:
                    status = file.stat()
                except FileNotFoundError:
                    continue  # it was removed or renamed meanwhile
                present[file] = status.st_size, status.st_mtime_ns
        for file, version in present.items():
            if version == seen.get(file) and version != done.get(file) and version[0]:
                done[file] = version
                yield file
        seen = present
        time.sleep(interval)
