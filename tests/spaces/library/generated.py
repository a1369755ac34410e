"""Small generated data sets in the layouts of the recipes, of two classes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vattn.data.motion import encode, render

FRAMES = 20
NAMES = ("Archery", "Biking")


def write_set(kind: str, root: Path, size: int) -> None:
    """Write the data set of a kind below ``root``, as its owners publish it, with fewer clips of ``size`` pixels."""
    {"kinetics": _kinetics, "ssv1": _ssv1, "ssv2": _ssv2, "ucf101": _ucf101, "hmdb51": _hmdb51}[kind](root, size)


def classes(kind: str) -> int:
    """Return the number of classes of a set that `write_set` writes."""
    return 400 if kind == "kinetics" else 2


def _clip(label: int, number: int, size: int) -> np.ndarray:
    return render(label, np.random.default_rng([label, number]), FRAMES, size)


def _video(path: Path, label: int, number: int, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, _clip(label, number, size))


def _kinetics(root: Path, size: int) -> None:
    # Most videos of Kinetics are gone in most copies of it: here, those of all classes but the first two.
    rows = {
        "train": ["label,youtube_id,time_start,time_end,split"],
        "val": ["label,youtube_id,time_start,time_end,split"],
    }
    for label in range(400):
        for number, split in enumerate(("train", "train", "val")):
            name = f"v{label:03}_{number}"
            rows[split].append(f"class {label:03},{name},0,10,{split}")
            if label < 2:
                _video(root / split / f"{name}_000000_000010.mp4", label, number, size)
    for split, lines in rows.items():
        (root / f"{split}.csv").write_text("\n".join(lines))


def _ssv1(root: Path, size: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    name = "something-something-v1"
    (root / f"{name}-labels.csv").write_text("\n".join(NAMES))
    lines: dict[str, list[str]] = {"train": [], "validation": []}
    for label in range(2):
        for number, split in enumerate(("train", "train", "validation")):
            clip = f"{10 * label + number + 1}"
            lines[split].append(f"{clip};{NAMES[label]}")
            folder = root / f"20bn-{name}" / clip
            folder.mkdir(parents=True)
            for t, frame in enumerate(_clip(label, number, size)):
                Image.fromarray(frame).save(folder / f"{t + 1:05}.jpg")
    for split, rows in lines.items():
        (root / f"{name}-{split}.csv").write_text("\n".join(rows))


def _ssv2(root: Path, size: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    name = "something-something-v2"
    (root / f"{name}-labels.json").write_text(json.dumps({each: str(i) for i, each in enumerate(NAMES)}))
    entries: dict[str, list[dict[str, str]]] = {"train": [], "validation": []}
    for label in range(2):
        for number, split in enumerate(("train", "train", "validation")):
            clip = f"{10 * label + number + 1}"
            entries[split].append({"id": clip, "template": NAMES[label]})
            _video(root / f"20bn-{name}" / f"{clip}.webm", label, number, size)
    for split, rows in entries.items():
        (root / f"{name}-{split}.json").write_text(json.dumps(rows))


def _ucf101(root: Path, size: int) -> None:
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("\n".join(f"{label + 1} {name}" for label, name in enumerate(NAMES)))
    train: list[str] = []
    test: list[str] = []
    for label, name in enumerate(NAMES):
        # One group of three is held out for validation; a fourth is for testing.
        for group in range(1, 5):
            path = f"{name}/v_{name}_g{group:02}_c01.avi"
            _video(root / "UCF-101" / path, label, group, size)
            if group < 4:
                train.append(f"{path} {label + 1}")
            else:
                test.append(path)
    for split in (1, 2, 3):
        (lists / f"trainlist0{split}.txt").write_text("\n".join(train))
        (lists / f"testlist0{split}.txt").write_text("\n".join(test))


def _hmdb51(root: Path, size: int) -> None:
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for label, name in enumerate(NAMES):
        lines = []
        for film in range(1, 5):
            clip = f"Film{film}_{name}_f_cm_np1_fr_med_0.avi"
            _video(root / "hmdb51_org" / name / clip, label, film, size)
            lines.append(f"{clip} {1 if film < 4 else 2}")
        for split in (1, 2, 3):
            (lists / f"{name}_test_split{split}.txt").write_text("\n".join(lines))
