"""Untrimmed videos with the times of their actions, in a CSV file or in ActivityNet's form of JSON."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from vattn.data.layouts._base import LayoutConfig, OneSplit
from vattn.data.layouts._files import lists_below, read_csv, read_json, split_of, videos_by_stem
from vattn.data.layouts._rows import Row
from vattn.data.layouts._segments import AMBIGUOUS, Segment, annotated, video_rows
from vattn.data.untrimmed import Annotations, Metric, Rate
from vattn.errors import UserError

_COLUMNS = ("video", "start", "end", "label", "split")


class SegmentsDataConfig(LayoutConfig, kind="segments"):
    """Untrimmed videos for temporal detection: a list of actions, and the videos anywhere below the root.

    The list is a CSV file with the columns video, start, end, label and split, or ActivityNet's JSON: ``database`` maps
    the name of a video to its ``subset`` and ``annotations``, each with ``segment`` [start, end] and ``label``. Times
    are seconds. Videos are named with or without suffix. Segments of the class Ambiguous are neither right nor wrong.
    Videos without a split (JSON) that has a usual name are left out.
    """

    kind: Literal["segments"] = "segments"
    split: OneSplit = 1
    file: str = Field(
        "auto",
        min_length=1,
        description="the file of the actions, below the root; auto: the only .csv or .json file in it",
    )
    fps: Rate = 25.0
    metric: Metric = "thumos14"

    @property
    def is_untrimmed(self) -> bool:
        """Whether its clips are whole videos."""
        return True

    @property
    def detection(self) -> tuple[float, Metric]:
        """Frames per second that a detector sees, and the rule of the average precision."""
        return self.fps, self.metric

    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Return the names of the classes in the list, sorted."""
        return tuple(sorted({segment.name for segment in self._segments(root)} - {AMBIGUOUS}))

    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterator[Row]:
        """Return one row for each video of the list."""
        yield from video_rows(self._segments(root), videos_by_stem(root))

    def annotations(self, paths: Sequence[str]) -> Annotations:
        """Return the actions of each video."""
        return annotated(paths, self._segments(Path(self.root)), self.labels())

    def _segments(self, root: Path) -> Iterator[Segment]:
        path = self._path(root)
        if path.suffix.lower() != ".json":
            for place, row in read_csv(path, _COLUMNS):
                if split := split_of(row["split"]):
                    yield Segment(row["video"], split, row["start"], row["end"], row["label"], place)
                else:
                    raise UserError(
                        f"{path.name}:{place.rpartition(':')[2]}: split must be train, val or test",
                        path="data.file", found=row["split"],
                    )  # fmt: skip
            return
        database = read_json(path, dict).get("database")
        if not isinstance(database, dict):
            raise UserError(f"{path}: must have a mapping database, as ActivityNet's has", path="data.file")
        for video, entry in database.items():
            split = split_of(str(entry.get("subset", ""))) if isinstance(entry, dict) else None
            if split is None:
                continue
            for number, action in enumerate(entry.get("annotations", ())):
                place = f"{path.name}: database.{video}.annotations[{number}]"
                try:
                    (start, end), name = action["segment"], str(action["label"])
                except (KeyError, TypeError, ValueError):
                    raise UserError(f"{place}: must have segment [start, end] and label", path="data.file") from None
                yield Segment(video, split, start, end, name, place)

    def _path(self, root: Path) -> Path:
        if self.file != "auto":
            path = root / self.file
            if not path.is_file():
                raise UserError(f"{path} does not exist", path="data.file", way_out="name a file below the root")
            return path
        found = [path for pattern in ("*.csv", "*.json") for path in lists_below(root, pattern)]
        if len(found) != 1:
            raise UserError(
                f"{root}: must have one file .csv or .json of actions", path="data.file", way_out="name the file",
                found=", ".join(path.name for path in found) or "none",
            )  # fmt: skip
        return found[0]
