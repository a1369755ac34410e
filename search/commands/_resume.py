"""Where a training is, and how it is resumed: with the same config, or with another number of epochs."""

from collections.abc import Sequence
from pathlib import Path

from search.spec.validation import load_config
from vattn.canonical import MAX_DIFFERENCES, canonical_trial, changes
from vattn.config import TrialConfig
from vattn.errors import UserError
from vattn.trained.file import is_model
from vattn.training.checkpoint import config_of, exists, finished, go_on_as

#: Name of the config in the output folder of a training.
CONFIG = "config.yaml"
#: The value that a resume may change.
LENGTH = "train.epochs"


def output_of(path: Path) -> Path:
    """Return the output folder of the training of a config file: ``runs/NAME``, or the folder of a training itself.

    The latter is that of a file ``config.yaml``, or of a trained model, beside checkpoints or in a folder of ``runs``.
    """
    folder = path.parent
    if path.name == CONFIG or is_model(path):
        holds_training = exists(folder) or any(exists(split) for split in folder.glob("split[0-9]"))
        if holds_training or folder.absolute().parent.name == "runs":
            return folder
    return Path("runs") / path.stem


class Resume:
    """The trainings that go on in an output folder.

    Args:
        file: the config file, for messages.
        configs: the config of each split.
        folders: the folder of each split. Those without a checkpoint start.
        output: the folder with ``config.yaml``.

    Raises:
        UserError: the config is another one in more than its number of epochs, or cannot have this number.
    """

    def __init__(self, file: Path, configs: Sequence[TrialConfig], folders: Sequence[Path], output: Path) -> None:
        self._file = file
        self._lengthened: list[tuple[Path, TrialConfig, TrialConfig, int]] = []
        for config, folder in zip(configs, folders, strict=True):
            if exists(folder):
                old = config_of(folder) or _of_split(load_config(output / CONFIG), config)
                self._compare(old, config, folder)

    def _compare(self, old: TrialConfig, new: TrialConfig, folder: Path) -> None:
        changed = dict(changes(canonical_trial(old).tree(), canonical_trial(new).tree()))
        if changed.keys() - {LENGTH}:
            texts = list(changed.values())
            more = f"; and {len(texts) - MAX_DIFFERENCES} more" if len(texts) > MAX_DIFFERENCES else ""
            raise UserError(
                f"must be as when the training in {folder} began, to go on with it; only {LENGTH} may change. Undo the "
                "change, or name another folder with --out",
                file=self._file,
                path="; ".join(texts[:MAX_DIFFERENCES]) + more,
            )
        if not changed:
            return
        done, length = len(finished(folder, old)), new.train.epochs
        if length <= done:
            raise UserError(
                f"must be more than the {done} epochs that are finished in {folder}", file=self._file, path=LENGTH,
                way_out="the weights after the last and after the best of them are there", found=length,
            )  # fmt: skip
        self._refuse_stages(old, new, done)
        self._lengthened.append((folder, old, new, done))

    def _refuse_stages(self, old: TrialConfig, new: TrialConfig, done: int) -> None:
        """Raise UserError if the branches of sparse attention would go back to an earlier stage of their training."""
        sparse = new.model.sparse
        if sparse == "none" or not done:
            return
        stages = ("alone", "all", "random")  # in the order in which they come
        before, after = sparse.stage(done, old.train.epochs), sparse.stage(done + 1, new.train.epochs)
        if stages.index(after) < stages.index(before):
            raise UserError(
                f"cannot be {new.train.epochs} from epoch {done} on: model.sparse is trained in stages, which are "
                f"shares of all epochs, and would go back from {before} to {after}",
                file=self._file, path=LENGTH, way_out="train it anew with --out",
            )  # fmt: skip

    def apply(self) -> None:
        """Let the trainings go on with their new numbers of epochs, and print the learning rates.

        Raises:
            StorageError: a checkpoint cannot be written.
        """
        for folder, old, new, done in self._lengthened:
            go_on_as(folder, old, new)
            before, after = (config.train.lr_at(done) for config in (old, new))
            print(
                f"{folder}: {new.train.epochs} epochs, and were {old.train.epochs}; after epoch {done} the learning "
                f"rate goes on at {after:.3g}, that of a training of {new.train.epochs} (before: {before:.3g})"
            )


def _of_split(config: TrialConfig, like: TrialConfig) -> TrialConfig:
    data = config.data
    return config.model_copy(update={"data": data.model_copy(update={"split": like.data.split})})
