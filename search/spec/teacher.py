"""Teachers of a distillation: a spec or config names their files, and has their content once it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.spec.config_tree import config_tree
from search.spec.messages import SpecError
from search.spec.store import with_size
from spaces.space import Problem, Tree, shown
from vattn.errors import UserError
from vattn.files import at_home, digest
from vattn.trained.file import is_model


def with_teachers(trial: Tree, file: Path, where: tuple[str, ...] = ()) -> Tree:
    """Return a trial section in which the teachers of ``train.distill`` are configs in place of the names of files.

    A teacher is the data and the model in its file, a config or a trained model, which is its own ``checkpoint``. That
    becomes absolute, and ``digest`` is added if it is not given. Both may be options of a choice. What has another form
    stays as it is, for the check of the config.

    Args:
        trial: a trial section, or a config.
        file: the file that it stands in, for messages.
        where: the path of the section in the file.

    Raises:
        SpecError: a file does not exist, or is no config.
    """
    train = trial.get("train")
    if not isinstance(train, Mapping) or "distill" not in train:
        return trial
    problems: list[Problem] = []
    distill = _filled(train["distill"], (*where, "train", "distill"), problems)
    if problems:
        raise SpecError.of(file, problems)
    return trial | {"train": dict(train) | {"distill": distill}}


def _filled(value: Any, path: tuple[Any, ...], problems: list[Problem]) -> Any:
    """Return the value of ``distill``, or of a choice of such, with the content of the files that it names."""
    if not isinstance(value, Mapping):
        return value
    if isinstance(options := value.get("choice"), list):
        return dict(value) | {
            "choice": [_filled(each, (*path, "choice", i), problems) for i, each in enumerate(options)]
        }
    filled = dict(value)
    if "teacher" in value:
        filled["teacher"] = _teacher(value["teacher"], (*path, "teacher"), problems)
    checkpoint = value.get("checkpoint")
    if checkpoint is None and isinstance(teacher := value.get("teacher"), str) and is_model(Path(teacher)):
        checkpoint = teacher  # a trained model has its own weights
    if isinstance(checkpoint, str):
        weights = at_home(checkpoint).absolute()
        filled["checkpoint"] = str(weights)
        if "digest" not in value:
            try:
                filled["digest"] = digest(weights)
            except OSError as error:
                rule = (
                    f"{(error.strerror or str(error)).lower()}; name the weights of the teacher, such as its model.pt"
                )
                problems.append(Problem((*path, "checkpoint"), rule, shown(checkpoint)))
    elif isinstance(checkpoint, Mapping):
        rule = "must be one file; for several teachers, put the choice around the whole of distill"
        problems.append(Problem((*path, "checkpoint"), rule))
    return filled


def _teacher(value: Any, path: tuple[Any, ...], problems: list[Problem]) -> Any:
    if isinstance(value, Mapping) and isinstance(options := value.get("choice"), list):
        return dict(value) | {
            "choice": [_teacher(each, (*path, "choice", i), problems) for i, each in enumerate(options)]
        }
    if not isinstance(value, str):
        return value
    try:
        tree = config_tree(at_home(value))
    except UserError as error:
        problems.append(Problem(path, str(error).partition(": ")[2] or str(error), shown(value)))
        return value
    if missing := [key for key in ("data", "model") if key not in tree]:
        rule = f"must be the config of a trained network, and has no {' and no '.join(missing)}; name another file"
        problems.append(Problem(path, rule, shown(value)))
        return value
    sized, _ = with_size({key: tree[key] for key in ("data", "model")})
    return sized
