"""`vattn predict`: the classes of videos, or the segments of their actions, by a trained model without a data set."""

import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from search.commands._spec import parse_views
from vattn.data.decode import is_litter
from vattn.data.names import is_video
from vattn.errors import UserError
from vattn.trained import Prediction, Segment, TrainedDetector, TrainedModel, load_any

#: seconds between two looks at a folder; a file that did not change between them is complete
INTERVAL = 1.0


def run(arguments: Namespace) -> int:
    """Print the classes or the segments of each video; return 2 if one could not be read."""
    if not arguments.videos and arguments.watch is None:
        raise UserError("needs videos", file="vattn predict", way_out="name some, or a folder with --watch")
    if arguments.watch is not None and not arguments.watch.is_dir():
        raise UserError("must be a folder", path="--watch", found=arguments.watch)
    model = load_any(arguments.model)
    if arguments.views is not None:
        if isinstance(model, TrainedDetector):
            raise UserError("a detector sees all of a video", path="--views", way_out="leave it out")
        model = model.with_views(**parse_views(arguments.views))
    if arguments.out is not None:
        if not isinstance(model, TrainedDetector):
            raise UserError("a classifier finds no segments", path="--out", way_out="use `vattn explain` for pictures")
        stems = Counter(video.stem for video in arguments.videos)
        if same := [stem for stem, number in stems.items() if number > 1]:
            raise UserError("two videos would have one folder", path="--out", way_out="one at a time", found=same[0])
    status = 0
    for video in arguments.videos:
        status = max(status, _print(model, video, arguments))
    if arguments.watch is not None:
        for video in arrivals(arguments.watch):
            _print(model, video, arguments)
    return status


def _print(model: TrainedModel | TrainedDetector, video: Path, asked: Namespace) -> int:
    try:
        if asked.out is not None and isinstance(model, TrainedDetector):
            found = _drawn(model, video, asked)
        else:
            found = model(video, asked.top)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    if asked.json:
        kind = "segments" if isinstance(model, TrainedDetector) else "predictions"
        print(json.dumps({"video": str(video), kind: [each._asdict() for each in found]}), flush=True)
    else:
        print(f"{video}: {', '.join(map(_in_words, found)) or 'nothing found'}", flush=True)
    return 0


def _drawn(model: TrainedDetector, video: Path, asked: Namespace) -> list[Segment]:
    """Return the segments of a video, and write its pictures."""
    from vattn.explain.detection import draw_watched, known_actions, watch  # they import matplotlib

    watched, frames = watch(model.trained, video, known_actions(model.trained.config.data, video))
    draw_watched(model.trained, watched, frames, asked.out / video.stem)
    return model.segments(watched.detected, asked.top)


def _in_words(found: Prediction | Segment) -> str:
    if isinstance(found, Prediction):
        return f"{found.label} {found.probability:.1%}"
    return f"{found.label} {found.start:.1f}-{found.end:.1f} s ({found.score:.2f})"


def arrivals(folder: Path, interval: float = INTERVAL) -> Iterator[Path]:
    """Yield each video of a folder as soon as it is complete, in the order of their names, and wait for more.

    A file that is replaced by another one is yielded again.
    """
    seen: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    while True:
        present: dict[Path, tuple[int, int]] = {}
        for file in sorted(folder.iterdir()):
            if is_video(file.name) and not is_litter(file.name):
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
