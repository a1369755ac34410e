"""The file of a test clip by clip: Parquet, one row for each clip of a split.

Columns:

* ``path``: the video or folder of frames, below the root of the data set; ``first``, ``last``: the first and last frame
  of the clip in it, -1 for its ends (optional);
* ``label``: number of the clip's class, or its name;
* ``length``: frames of the clip before any were selected (optional);
* ``scores``: one number for each class, averaged over the views; ``scores_NAME``: those of a branch of the model, or
  of a model in a fusion (optional).

The metadata are texts: ``classes``, the names of the classes as JSON (optional), and those of `About`. ``vattn test``
writes such files; any other program may.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.report.clips.tested import Tested
from vattn.errors import UserError
from vattn.files import replacing, writing

PATH = "path"
FIRST = "first"
LAST = "last"
LABEL = "label"
LENGTH = "length"
SCORES = "scores"
#: before the name of a branch or stream
PART = "scores_"
#: columns that a file must have
REQUIRED = (PATH, LABEL, SCORES)
#: suffix of the files
SUFFIX = ".parquet"
#: the names of the classes, in the metadata
CLASSES = "classes"

#: Metadata that `vattn test` writes: the folder of the decoded clips, their split, what the scores are, the views, the
#: order of the frames.
ABOUT = ("cache", "split", "scores", "views", "frames")


def write_test(test: Tested, file: Path) -> None:
    """Write a test. Raises StorageError where it cannot be written."""
    columns: dict[str, pa.Array] = {
        PATH: pa.array(test.paths, pa.string()),
        FIRST: pa.array(test.spans[:, 0]),
        LAST: pa.array(test.spans[:, 1]),
        LABEL: pa.array(test.labels.astype(np.int32)),
        **({} if test.lengths is None else {LENGTH: pa.array(test.lengths.astype(np.int64))}),
        SCORES: _rows(test.scores),
        **{PART + name: _rows(scores) for name, scores in test.parts.items()},
    }
    metadata = {CLASSES: json.dumps(test.classes), **test.about}
    with writing(file, "make room, or name another place with --out"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            pq.write_table(pa.table(columns, metadata=metadata), part)


def read_test(file: Path) -> Tested:
    """Return the test in a file, named as the file. Raises UserError for a file that has another form."""
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"is not a Parquet file ({str(error).partition(chr(10))[0]})", file=file) from None
    if missing := [name for name in REQUIRED if name not in table.column_names]:
        raise UserError(f"has no column {missing[0]}", file=file, way_out="name a file that `vattn test --out` wrote")
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    scores = _scores(table, SCORES, file)
    labels, classes = _labels(table, metadata, scores.shape[1], file)
    return Tested(
        name=file.stem,
        paths=list(map(str, table[PATH].to_pylist())),
        labels=labels,
        scores=scores,
        classes=classes,
        lengths=_numbers(table, LENGTH),
        spans=_spans(table),
        parts={name.removeprefix(PART): _scores(table, name, file) for name in table.column_names if _is_part(name)},
        about={key: metadata[key] for key in ABOUT if key in metadata},
    )


def clip_files(folder: Path) -> list[Path]:
    """Return the files with results clip by clip in the folder ``tests`` of a search."""
    return sorted((folder / "tests").glob(f"*{SUFFIX}"))


def _rows(scores: np.ndarray) -> pa.Array:
    count, classes = scores.shape
    offsets = np.arange(0, (count + 1) * classes, classes, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(scores.astype(np.float32).reshape(-1)))


def _is_part(name: str) -> bool:
    return name.startswith(PART) and len(name) > len(PART)


def _scores(table: pa.Table, name: str, file: Path) -> np.ndarray:
    rows = table[name].to_pylist()
    if not rows or any(not isinstance(row, list) or not row or len(row) != len(rows[0]) for row in rows):
        raise UserError("must have a list of scores for each clip, all of one length", file=file, path=name)
    try:
        scores = np.array(rows, dtype=float)
    except (TypeError, ValueError):
        raise UserError("must be numbers", file=file, path=name) from None
    if np.isnan(scores).any():
        raise UserError("must be numbers, and some are missing or NaN", file=file, path=name)
    return scores


def _labels(
    table: pa.Table, metadata: Mapping[str, str], scores: int, file: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the label of each clip as a number, and the names of the classes."""
    names = None
    if CLASSES in metadata:
        try:
            names = json.loads(metadata[CLASSES])
        except ValueError:
            names = ()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError("must be a JSON list of names", file=file, path=f"metadata {CLASSES}")
    labels = table[LABEL].to_pylist()
    if any(label is None for label in labels):
        raise UserError("must not be empty", file=file, path=LABEL)
    if isinstance(labels[0], str):
        names = names or sorted(set(labels))
        if unknown := set(labels) - set(names):
            raise UserError(f"has a label {min(unknown)!r} that is no class", file=file)
        labels = [names.index(label) for label in labels]
    classes = tuple(names or (f"class {n}" for n in range(scores)))
    if len(classes) < scores or min(labels) < 0 or max(labels) >= len(classes):
        raise UserError(f"has {len(classes)} classes for {scores} scores and labels up to {max(labels)}", file=file)
    return np.array(labels, dtype=np.int64), classes


def _numbers(table: pa.Table, name: str) -> np.ndarray | None:
    if name not in table.column_names or table[name].null_count:
        return None
    return np.array(table[name].to_pylist(), dtype=float)


def _spans(table: pa.Table) -> np.ndarray:
    columns = [_numbers(table, name) for name in (FIRST, LAST)]
    return np.stack([np.full(len(table), -1.0) if c is None else c for c in columns], axis=1).astype(np.int64)
