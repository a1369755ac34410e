"""The base of data sets whose files the user provides: lists are read as their owners publish them, then checked."""

from abc import abstractmethod
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, Field

from vattn.base import LATER
from vattn.data.config import AugmentConfig, DataConfig, SamplingConfig, StoreConfig, ViewsConfig
from vattn.data.faults import tolerance
from vattn.data.layouts._classes import refuse_shifted
from vattn.data.layouts._rows import Row, as_table, checked, divided, hold_out
from vattn.errors import UserError
from vattn.files import at_home

#: The type of ``split`` in data sets that have only one.
OneSplit = Annotated[Literal[1], Field(description="number of the train/test split; this data set has only one")]


def _folder(root: str) -> str:
    if root == "auto":
        raise ValueError("must be the folder of the files as their owners publish it; there is none to choose for you")
    return str(at_home(root).absolute())  # worker processes have working directories of their own


class LayoutConfig(DataConfig):
    """A data set whose files lie below ``root``. Its classes and splits are read from its own lists."""

    root: Annotated[str, AfterValidator(_folder)] = Field(
        description="folder of the data set's files, as its owners publish it"
    )
    max_faults: Annotated[int | str, AfterValidator(tolerance)] = Field(
        0,
        description="number of rows that may have problems, or a share of all rows, such as 1 %; rows of a missing or "
        "unreadable file, of an unknown class, and of a clip listed twice or in two splits are then left out; clips "
        "that are longer or shorter than their lists state are used as they are",
    )
    classes: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        json_schema_extra=LATER,
        description="number of classes; auto: as many as the data set's lists name; given, it is compared with them, "
        "and vattn check and vattn cost need no files",
    )
    prefix: str = Field(
        "auto",
        json_schema_extra=LATER,
        description="of the images in a folder of frames: image_ for image_00001.jpg; for modality flow, that of the x "
        "images; auto: each folder holds one sequence of images, besides flow_x and flow_y",
    )
    val_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of each class's training files that is held out for validation if the data set has no "
        "validation split",
    )
    test_share: float = Field(
        0,
        ge=0,
        lt=1,
        json_schema_extra=LATER,
        description="share of each class's training files that is held out for testing if the data set has no test "
        "split; the clips of a group, such as the scene of UCF101, stay in one split",
    )

    @abstractmethod
    def read_labels(self, root: Path) -> tuple[str, ...]:
        """Read the names of the classes below ``root``; raise UserError if they are missing or wrong.

        Every process of a search calls this, so it must not look at the videos.
        """

    @abstractmethod
    def read_rows(self, root: Path, labels: tuple[str, ...]) -> Iterable[Row]:
        """Read the lists below ``root``; raise UserError if one is missing or has another form."""

    def source_of(self, path: str) -> str:
        """Return the source that a file was cut from: its clips are never divided between splits."""
        return path

    def labels(self) -> tuple[str, ...]:
        """Return the names of the classes in the order of the data set's own files; raise UserError as `read_labels`.

        The names are read once in each process.
        """
        # The other fields differ between trials and do not affect the files; without them all trials share one entry.
        plain = {
            "cache": "auto", "store": StoreConfig(), "sampling": SamplingConfig(), "views": ViewsConfig(),
            "augment": AugmentConfig(), "modality": "rgb", "prefix": "auto", "normalize": "auto",
        }  # fmt: skip
        return _labels(self.model_copy(update=plain))

    @property
    def awaits_files(self) -> bool:
        """Whether ``classes`` is given and ``root`` does not exist yet."""
        return self.classes != "auto" and not Path(self.root).exists()

    def num_classes(self) -> int:
        """Return the number of classes: as many as the lists name, or ``classes`` if there are no files yet."""
        return self.classes if self.classes != "auto" and self.awaits_files else super().num_classes()

    def manifest(self, root: Path) -> pa.Table:
        """Return the rows without problems; raise UserError, naming the others, if there are more than ``max_faults``.

        If no row is in the split ``val`` or ``test``, training files are held out for it (``val_share``,
        ``test_share``).
        """
        assert self.split != "all", "each of `each_split` has a manifest"
        labels = self.labels()
        listed = tuple(self.read_rows(root, labels))
        refuse_shifted(listed, labels)
        rows, problems = checked(listed, labels, root, self.max_faults)
        present = {row.split for row in rows}
        shares = {"val": self.val_share, "test": self.test_share}
        shares = {split: share for split, share in shares.items() if share and split not in present}
        rows = hold_out(rows, shares, lambda row: row.group or self.source_of(row.path))
        return as_table(rows, problems, len(listed), divided(rows))

    def canonical(self) -> Self:
        """Return the same data in canonical form.

        The number of tolerated problems does not change the other rows, and the number of classes is that of the lists.
        """
        return super().canonical().model_copy(update={"max_faults": 0, "classes": "auto"})


@cache
def _labels(config: LayoutConfig) -> tuple[str, ...]:
    root = Path(config.root)
    config.supply(root)
    labels = config.read_labels(root)
    if config.classes not in ("auto", len(labels)):
        raise UserError(
            f"must be as many as the lists in {root} name, {len(labels)}",
            path="data.classes",
            way_out="write that, or auto",
            found=config.classes,
        )
    return labels
