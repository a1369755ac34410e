"""Summary of a data set before anything is decoded: clips of each class and split, and what would mislead a user."""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from vattn.data.config import DataConfig
from vattn.data.faults import printable
from vattn.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
#: With fewer validation clips than this a warning is given.
FEW_CLIPS = 100
#: Smallest number of clips by which two models must differ on the same clips, so that a two-sided binomial test (sign
#: test) at 5 % finds the difference significant: all 6 clips that only one of them gets right are the same model's, and
#: 2 * 0.5 ** 6 = 0.031. With 5 clips it is 0.0625.
LEAST_DIFFERENCE = 6
#: Classes or clips that a message names.
NAMED = 5
#: Letters of other alphabets that look like Latin ones, small, and these.
_LOOKALIKES = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u03bf", "aeopcyxijsho")


@dataclass(frozen=True)
class Flips:
    """What ``augment.flip`` does to the classes."""

    pairs: tuple[tuple[str, str], ...]
    """classes that a flip exchanges"""
    never: tuple[str, ...]
    """classes whose clips are never flipped, because their mirror image is no class"""


@dataclass(frozen=True)
class Summary:
    """The classes and splits of a data set; see `summarize`."""

    classes: tuple[str, ...]
    clips: Mapping[str, Int64[np.ndarray, " classes"]]
    """number of clips of each class, by split"""
    flips: Flips | None
    """None if no clip is flipped"""
    problems: tuple[str, ...]
    """why nothing can be trained on these clips, or why the result would be wrong"""
    warnings: tuple[str, ...]
    wrong_labels: bool = False
    """whether clips of one action would be of two classes, which is one of the problems"""

    @cached_property
    def totals(self) -> dict[str, int]:
        """Number of clips of each split."""
        return {split: int(counts.sum()) for split, counts in self.clips.items()}

    @property
    def points_per_clip(self) -> float:
        """Percentage points of accuracy that one validation clip is worth; 0 without any."""
        return 100 / self.totals["val"] if self.totals["val"] else 0.0

    @property
    def constant_guess(self) -> float:
        """Share of the validation clips that are of their most frequent class."""
        return int(self.clips["val"].max()) / self.totals["val"] if self.totals["val"] else 0.0

    def refuse(self) -> None:
        """Raise UserError if there are problems."""
        if self.problems:
            raise UserError("\n".join(self.problems))

    def tree(self) -> dict[str, Any]:
        """Return the summary for machines."""
        by_class = {
            name: {split: int(self.clips[split][label]) for split in SPLITS} for label, name in enumerate(self.classes)
        }
        return {
            "classes": len(self.classes),
            "clips": self.totals,
            "clips_by_class": by_class,
            "points_per_validation_clip": self.points_per_clip,
            # With fewer clips no difference is significant.
            "least_difference_points": points if (points := LEAST_DIFFERENCE * self.points_per_clip) <= 100 else None,
            "constant_guess": self.constant_guess,
            "flips": None if self.flips is None else {"pairs": self.flips.pairs, "never": self.flips.never},
            "problems": self.problems,
            "warnings": self.warnings,
        }


def summarize(data: DataConfig, manifest: pa.Table, flip: bool = False, remarks: Iterable[str] = ()) -> Summary:
    """Count the clips of each class and split, and find what would mislead a user.

    Args:
        data: the config of the data set.
        manifest: its clips, see `DataConfig.manifest`.
        flip: whether training clips may be flipped.
        remarks: further warnings, such as those of `DataConfig.remarks`.

    Raises:
        UserError: the file ``augment.mirror`` is wrong.
    """
    names = tuple(data.labels())
    clips = count_actions(data, manifest) if data.is_untrimmed else count_clips(manifest, len(names))
    flips = _flips(names, data.mirrored()) if flip else None
    numbered = all(name == str(label) for label, name in enumerate(names))
    listed = json.loads((manifest.schema.metadata or {}).get(b"remarks", b"[]"))
    warnings = [*_empty_classes(names, clips, numbered), *remarks, *listed, *_few_clips(int(clips["val"].sum()))]
    if len(names) == 1:
        warnings.append("there is only one class, so that every answer is right; add another")
    if flips is not None and numbered and not flips.pairs:
        warnings.append(
            "classes have numbers instead of names, so that a flip exchanges no classes; if some of them name a side, "
            "give data.names, or pairs of labels in a file data.augment.mirror"
        )
    alike = _confusable(names)
    return Summary(names, clips, flips, (*_unusable_splits(clips), *alike), tuple(warnings), bool(alike))


def count_clips(manifest: pa.Table, classes: int) -> dict[str, Int64[np.ndarray, " classes"]]:
    """Return the number of clips of each class, by split."""
    # `to_numpy` of a pyarrow column imports pandas, which takes half a second.
    labels, splits = np.array(manifest["label"].to_pylist(), np.int64), np.array(manifest["split"].to_pylist(), str)
    return {split: np.bincount(labels[splits == split], minlength=classes) for split in SPLITS}


def count_actions(data: DataConfig, manifest: pa.Table) -> dict[str, Int64[np.ndarray, " classes"]]:
    """Return the number of actions of each class in untrimmed videos, by split."""
    paths, classes = manifest["path"].to_pylist(), data.num_classes()
    annotations = data.annotations(paths)
    counts = {split: np.zeros(classes, np.int64) for split in SPLITS}
    for path, split in zip(paths, manifest["split"].to_pylist(), strict=True):
        labels = annotations[path].instances[:, 2].astype(np.int64)
        counts[split] += np.bincount(labels, minlength=classes)
    return counts


def _flips(names: Sequence[str], mirrored: Sequence[int]) -> Flips:
    pairs = tuple((names[label], names[other]) for label, other in enumerate(mirrored) if other > label)
    return Flips(pairs, tuple(name for name, other in zip(names, mirrored, strict=True) if other < 0))


def _unusable_splits(clips: Mapping[str, np.ndarray]) -> list[str]:
    if not clips["train"].sum():
        return ["data.root: has no training clips; list them, or put them into the folder train"]
    if not clips["val"].sum():
        return [
            "data.root: has no validation clips, and none can be held out, as each class has one file or group only, "
            "which is trained on; add files, or give a validation split"
        ]
    return []


def _confusable(names: Sequence[str]) -> list[str]:
    """Return a problem for all classes whose names look the same to a person."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_folded(name)].append(name)
    groups = [" and ".join(repr(name) for name in group) for group in alike.values() if len(group) > 1]
    if not groups:
        return []
    more = f"; and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    return [
        "data: classes differ only in capitals, blanks or the form of their characters, so that clips of one action "
        f"would be of two classes; give each class one name (got {'; '.join(groups[:NAMED])}{more})"
    ]


def _folded(name: str) -> str:
    """Return a name without what a person does not see: capitals, blanks, invisible and equivalent characters.

    Letters of other alphabets that look like Latin ones are written as these.
    """
    text = " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cf", "Cc")).strip()
    return text.translate(_LOOKALIKES)


def _empty_classes(names: Sequence[str], clips: Mapping[str, np.ndarray], numbered: bool) -> list[str]:
    """Return warnings about classes without clips in some or all splits."""
    train, val = clips["train"], clips["val"]
    total = train + val + clips["test"]
    empty = np.flatnonzero(total == 0)
    warnings = []
    if numbered and len(names) > 1 and total[0] == 0 and total[1]:
        warnings.append(
            "no clip has the label 0, and class 0 is trained without clips; if your labels begin at 1, subtract 1 from "
            "each of them"
        )
        empty = empty[1:]
    if len(empty):
        way_out = "number the classes without gaps" if numbered else "add clips, or remove the classes"
        warnings.append(f"{_of_classes(empty, names)} no clips at all; {way_out} ({_named(empty, names)})")
    for split, rule in (
        (train, "no training clips, so that no model can learn them; add clips, or remove the classes"),
        (val, "no validation clips, so that they do not count in the accuracy; add clips"),
    ):
        lacking = np.flatnonzero((split == 0) & (total > 0)) if split.any() else np.empty(0, int)
        if len(lacking):
            warnings.append(f"{_of_classes(lacking, names)} {rule} ({_named(lacking, names)})")
    return warnings


def _of_classes(labels: np.ndarray, names: Sequence[str]) -> str:
    return f"{len(labels):,} of {len(names):,} classes {'has' if len(labels) == 1 else 'have'}"


def _named(labels: np.ndarray, names: Sequence[str]) -> str:
    more = len(labels) - NAMED
    text = printable(", ".join(f"'{names[label]}'" for label in labels[:NAMED].tolist()))
    return text + (f" and {more:,} more" if more > 0 else "")


def _few_clips(count: int) -> list[str]:
    if not 0 < count < FEW_CLIPS:
        return []
    difference = "no difference between two models is significant"
    if count >= LEAST_DIFFERENCE:
        points = 100 * LEAST_DIFFERENCE / count
        difference = f"two models that differ by less than {LEAST_DIFFERENCE} clips ({points:.3g} points) may be equal"
    clips = "1 validation clip" if count == 1 else f"{count} validation clips"
    return [
        f"only {clips}: one is {100 / count:.3g} points of accuracy, and {difference} (two-sided binomial test, 5 %); "
        "add validation clips"
    ]
