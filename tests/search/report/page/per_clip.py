"""Write results clip by clip, as `vattn test --out` does."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: classes of all files
CLASSES = ("push", "pull", "turn")


def write_test(path: Path, labels: Sequence[int], predicted: Sequence[int], named: bool = True) -> Path:
    """Write a test in which clip n has 10 n + 10 frames and class ``labels[n]``, and was taken for ``predicted[n]``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({
        "path": [f"{n}.mp4" for n in range(len(labels))],
        "label": list(labels),
        "length": [10 * n + 10 for n in range(len(labels))],
        "scores": [[float(label == k) for label in range(len(CLASSES))] for k in predicted],
    })  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"classes": json.dumps(CLASSES)} if named else {}), path)
    return path
