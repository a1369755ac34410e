"""Writes the optical flow of a data set as folders of images, with the lists of its splits.

The layout is that of TSN's code: a folder for each video, with images ``flow_x_00001.jpg`` and ``flow_y_00001.jpg``,
and lists with lines ``path frames label``. L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool: "Temporal
Segment Networks: Towards Good Practices for Deep Action Recognition", ECCV 2016, arXiv:1608.00859.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vattn.data import workers
from vattn.data.cache import FAILURES
from vattn.data.config import Progress, StoreConfig
from vattn.data.decode import ImageFolder, UnreadableFileError, decode_video, read_images
from vattn.data.flow.methods import BOUND, Method, as_levels
from vattn.data.names import clip_name
from vattn.data.summary import SPLITS
from vattn.errors import UserError
from vattn.files import LOCK, locked, part_of, write_whole, writing

#: File with the parameters that the images depend on; written first.
PARAMETERS = "flow.json"
#: Names of the images, by the component of the flow.
IMAGES = "flow_{axis}_{number:05}.jpg"


class Job(NamedTuple):
    """One video or folder of frames below the root, and the folder of its flow below the output."""

    path: str
    folder: str


class Unwritten(NamedTuple):
    """Why a folder could not be written, such as a full disk: no other folder could be either."""

    reason: str


class Outcome(NamedTuple):
    """What `FlowFolders.write` did: folders written now, folders that were there, and (path, reason) of failures."""

    written: int
    present: int
    failures: list[tuple[str, str]]


class FlowFolders:
    """The flow of the videos below ``root``, as folders of images below ``out``.

    The flow of a frame is that to the next one, so a video of n frames has n - 1 images of each component. They are
    numbered from 1, and those of a folder of frames as its frames. A folder appears when it is complete.

    Args:
        root: folder of the data set.
        out: folder to write to.
        method: how flow is computed.
        size: shorter side of the images, pixels; displacements are in pixels of this size.
        quality: of the JPEG images.
        prefix: of the images in folders of frames, see `vattn.data.decode.ImageFolder`.

    Raises:
        UserError: the method cannot be used, or ``out`` holds flow of other parameters, or other files.
    """

    def __init__(self, root: Path, out: Path, method: Method, size: int, quality: int, prefix: str = "auto") -> None:
        method.check()
        self._root, self._out = root, out
        self._work = partial(write_flow, root, out, method, size, quality, prefix)
        weights = {"weights": Path(method.weights).name} if method.weights else {}
        self._parameters = {"method": method.kind, **weights, "bound": BOUND, "size": size, "quality": quality}

    def write(
        self,
        manifests: Sequence[pa.Table],
        jobs: int,
        progress: Progress | None = None,
        time_limit: float = float("inf"),
        run: Callable[..., Iterator[tuple[Any, Any]]] = workers.run,
    ) -> Outcome:
        """Write the folders of all videos that have none, then the list of those that could not be read.

        A video that cannot be read is reported, and the others go on. The next call tries it again.

        Args:
            manifests: the videos, see `DataConfig.manifest`; those of each split of the data set.
            jobs: videos at the same time.
            progress: called after each video.
            time_limit: longest time for one video, seconds.
            run: runs a function over many jobs; `cluster.ingest.run` does so on a Ray cluster.

        Raises:
            UserError: two videos would have the same folder.
            StorageError: a file cannot be written.
        """
        paths = sorted({path for manifest in manifests for path in manifest["path"].to_pylist()})
        by_folder: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            by_folder[clip_name(path)].append(path)
        if same := next((files for files in by_folder.values() if len(files) > 1), None):
            raise UserError(
                f"{' and '.join(same)} would have the same folder of flow", file=self._root, way_out="rename one"
            )
        with locked(self._out), writing(self._out, "make room and call again: it goes on"):
            self._claim()
            todo = [Job(files[0], name) for name, files in by_folder.items() if not (self._out / name).is_dir()]
            failures: list[tuple[str, str]] = []
            for done, (job, outcome) in enumerate(run(self._work, todo, jobs, time_limit), start=1):
                if isinstance(outcome, Unwritten):
                    raise OSError(outcome.reason)
                if isinstance(outcome, workers.Failure):
                    failures.append((job.path, outcome.reason))
                    shutil.rmtree(part_of(self._out / job.folder), ignore_errors=True)  # its process was killed
                if progress is not None:
                    progress("flow", done, len(todo))
            lines = [json.dumps({"path": path, "reason": reason}) for path, reason in sorted(failures)]
            write_whole(self._out / FAILURES, "".join(f"{line}\n" for line in lines))
        return Outcome(len(todo) - len(failures), len(paths) - len(todo), sorted(failures))

    def write_lists(self, manifest: pa.Table, labels: Sequence[str], folder: str = "") -> dict[str, int]:
        """Write ``train.txt``, ``val.txt``, ``test.txt`` and ``classes.txt`` for `kind: list`.

        Clips without a folder of flow are left out.

        Args:
            manifest: the clips of one split of the data set.
            labels: names of the classes.
            folder: below the output, for data sets with several splits.

        Returns:
            The number of clips in each list.
        """
        target = self._out / folder
        with writing(target, "make room and call again"):
            target.mkdir(exist_ok=True)
            lines: dict[str, list[str]] = {name: [] for name in SPLITS}
            for clip in manifest.to_pylist():
                if line := self._line(clip):
                    lines[clip["split"]].append(line)
            for name, clips in lines.items():
                if clips or name == "train":
                    write_whole(target / f"{name}.txt", "".join(f"{line}\n" for line in clips))
            write_whole(target / "classes.txt", "".join(f"{label}\n" for label in labels))
        return {name: len(clips) for name, clips in lines.items()}

    def _line(self, clip: dict[str, Any]) -> str:
        """Return a clip's line: its folder, the first image if it is a part of it, the number of images, its label."""
        name = clip_name(clip["path"])
        numbers = self._numbers(name)
        first, last = clip.get("first"), clip.get("last")
        if clip.get("frames") is not None and last is not None:
            first = last = None  # a folder's first images, whatever their numbers
        # Frames of a video are counted from 0, and its images from 1.
        shift = 0 if (self._root / clip["path"]).is_dir() else 1
        low, high = (first or 0) + shift, float("inf") if last is None else last + shift
        chosen = [number for number in numbers if low <= number <= high]
        if not chosen:
            return ""
        start, count = [], len(chosen)
        if count < len(numbers):
            start, count = [chosen[0]], chosen[-1] - chosen[0] + 1
        # A part of a single image would be read as a row without frames: it takes the image before it too.
        if start and count == 1:
            start, count = [max(chosen[0] - 1, numbers[0])], 2
        return "\t".join(map(str, [name, *start, count, clip["label"]]))

    def _numbers(self, name: str) -> list[int]:
        try:
            return sorted(
                int(entry.stem.rpartition("_")[2])
                for entry in (self._out / name).iterdir()
                if entry.name.startswith("flow_x_")
            )
        except FileNotFoundError:
            return []

    def _claim(self) -> None:
        """Write the parameters; raise UserError if the folder holds flow of other ones, or anything else."""
        file = self._out / PARAMETERS
        if file.is_file():
            present = json.loads(file.read_text())
            differences = [
                f"{key} {present.get(key)} (asked for: {value})"
                for key, value in self._parameters.items()
                if present.get(key) != value
            ]
            if differences:
                raise UserError(
                    f"holds flow of {', '.join(differences)}",
                    file=self._out,
                    way_out="name another folder, or remove it",
                )
            return
        if any(entry.name != LOCK for entry in self._out.iterdir()):
            raise UserError(f"holds files, but no flow ({PARAMETERS})", file=self._out, way_out="name a new folder")
        write_whole(file, json.dumps(self._parameters) + "\n")


def write_flow(
    root: Path, out: Path, method: Method, size: int, quality: int, prefix: str, job: Job
) -> Unwritten | None:
    """Write the folder of one video's flow; return why the folder cannot be written, or None.

    Raises:
        UnreadableFileError: the video cannot be decoded, or has a single frame.
    """
    from simplejpeg import encode_jpeg

    source = root / job.path
    if source.is_dir():
        images = ImageFolder(source, "rgb", prefix)
        frames: Any = read_images(images.clip(), StoreConfig(size=size))
        numbers = images.numbers
    else:
        frames = [frame for frame in decode_video(source, size, lambda t: True).frames if frame is not None]
        numbers = range(1, len(frames) + 1)
    if len(frames) < 2:
        raise UnreadableFileError("has a single frame, and flow needs two")
    folder = out / job.folder
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for number, flow in zip(numbers, method.flows(frames), strict=False):
            for axis, levels in zip("xy", as_levels(flow).transpose(2, 0, 1), strict=True):
                data = encode_jpeg(levels[..., None].copy(), quality, "GRAY", colorsubsampling="Gray")
                (part / IMAGES.format(axis=axis, number=number)).write_bytes(data)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        return Unwritten(str(error))
    return None
