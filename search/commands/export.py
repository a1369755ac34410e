"""`vattn export`: write one trial of a search as a complete config, and copy its weights."""

import shlex
import shutil
from argparse import Namespace
from collections.abc import Mapping
from filecmp import cmp
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from search.analysis.front import settled
from search.analysis.pick import pick
from search.ledger.history import History, Trial
from search.ledger.remote import Remote, is_url
from search.ledger.runs import open_run, resolve_run
from search.report.wording.program import program
from search.report.wording.trials import describe, describe_memory
from search.report.wording.values import format_metric
from search.spec.messages import problems
from vattn.config import TrainConfig
from vattn.errors import UserError
from vattn.files import at_home, replacing, write_whole, writing
from vattn.training.recipe.length import with_length


def run(arguments: Namespace) -> None:
    """Export the trial that the command line picks."""
    export(arguments.search, arguments.pick, arguments.out, arguments.weights, arguments.epochs, arguments.force)


def export(
    run: str, rule: str, out: Path, weights: Path | None, epochs: int | None = None, force: bool = False
) -> None:
    """Write a trial of a search to ``out`` as a complete config, and print the names of the files written.

    Folders in the config are absolute, so that it works from any working directory. Files that exist with another
    content are not overwritten, unless ``force`` is set.

    Args:
        run: output folder or name of the search.
        rule: selects the trial, see `search.analysis.pick.pick`.
        out: the YAML file to write.
        weights: folder for copies of the weights, which are plain state dicts: ``model.pt`` has the trained weights,
            ``start.pt`` the weights that the trial inherited (its ``train.init``). None: no copies.
        epochs: length of the training that is exported, to which its schedule is fitted
            (`vattn.training.recipe.length.with_length`); None: that of the search.
        force: overwrite files.

    Raises:
        UserError: no trial fits the rule, the weights no longer exist, or a file would be overwritten.
    """
    history = open_run(run)
    output = resolve_run(run).resolve()
    trial = pick(history, history.objectives, rule)
    source = output / "trials" / f"{trial.number:04d}" / "model.pt"
    if weights and is_url(run):
        for number in (trial.number, trial.source):
            if number is not None:
                key = f"trials/{number:04d}/model.pt"
                Remote(run).download(key, output / key)
    if weights and not source.is_file():
        message = f"the weights of trial {trial.number} are gone"
        raise UserError(message, file=source, way_out="export without --weights, and train the exported config")
    copies = {weights / "model.pt": source} if weights else {}
    config = _with_absolute_folders(trial.run_config, history.places, output)
    if start := _initial_weights(trial, output):
        if weights:
            copies[weights.absolute() / "start.pt"] = start
            start = weights.absolute() / "start.pt"
        config["train"] = config["train"] | {"init": str(start)}
    if epochs is not None:
        config["train"] = with_length(config["train"], epochs)
        _check_length(config, epochs)
    header = "".join(f"# {line}\n" for line in _header(history, trial, out, epochs))
    text = header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    if not force:
        _refuse_to_overwrite(out, text, copies)
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out, "make room, or name another place with --out"):
        write_whole(out, text)
        for copy, file in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as part:
                shutil.copyfile(file, part)
    print(f"trial {trial.number} is in {out}: {describe(trial)}")
    if weights:
        print(f"its weights are in {weights / 'model.pt'}")
    length = config["train"].get("epochs")
    if epochs is None:
        print(f"it trains {length} epochs, as in the search; for another length, export it with --epochs N")
    print(f"next: {program()} {shlex.join(['train', str(out)])}")


def _refuse_to_overwrite(out: Path, text: str, copies: Mapping[Path, Path]) -> None:
    """Raise UserError if a file exists and has another content than would be written."""
    differs = [out] if out.exists() and (not out.is_file() or out.read_bytes() != text.encode()) else []
    differs += [copy for copy, file in copies.items() if copy.exists() and not cmp(copy, file, shallow=False)]
    if differs:
        raise UserError(
            "exists, and is another one" if differs[0] == out else "exists, and has other weights",
            file=differs[0],
            way_out="name another file, or overwrite it with --force",
        )


def _check_length(config: dict[str, Any], epochs: int) -> None:
    """Raise UserError if the training cannot have this length."""
    try:
        TrainConfig.parse(config["train"])
    except ValidationError as error:
        first = problems(error, TrainConfig, config["train"])[0]
        raise UserError(
            f"this training cannot have this length: train.{first}", path="--epochs", found=epochs
        ) from None


def _initial_weights(trial: Trial, output: Path) -> Path | None:
    """Return the file of the weights that a trial inherited; None if it started from scratch."""
    if trial.source is None:
        return None
    file = output / "trials" / f"{trial.source:04d}" / "model.pt"
    if not file.is_file():
        raise UserError(
            f"the weights that trial {trial.number} started with are gone, without which it cannot be trained again",
            file=file,
            way_out="pick another trial",
        )
    return file


def _with_absolute_folders(config: dict[str, Any], places: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Return a trial's config with absolute folders of its data; one that is ``auto`` is in the output folder.

    ``places`` are folders that a resume has changed.
    """
    data = dict(config["data"])
    auto_folders = {"root": output / "data" / data["kind"], "cache": output / "cache"}
    for key, auto_folder in auto_folders.items():
        folder = places.get(key, data.get(key, "auto"))
        data[key] = str(auto_folder if folder == "auto" else at_home(folder).absolute())
    return config | {"data": data}


def _header(history: History, trial: Trial, out: Path, epochs: int | None) -> list[str]:
    """Return the comment lines of an exported config: its trial, its metrics, and how to train it."""
    names = dict.fromkeys([*history.objectives, *trial.cost])
    numbers = ", ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in names)
    confirmed = trial.number in {retrained.number for retrained in settled(history, history.objectives)}
    return [
        f"{describe(trial)}: trial {trial.number} of the search {history.name} ({history.began.id}).",
        f"After {trial.epoch} epochs of the search: {numbers}, on the validation split.",
        *([f"For lack of GPU memory it was trained {describe_memory(trial.memory)}."] if trial.memory else []),
        *([f"These metrics are the mean of {len(trial.fresh)} fresh seeds."] if confirmed else []),
        f"It trains as in the search. For another length: vattn export --epochs N; then: vattn train {out}"
        if epochs is None
        else f"Its schedule was fitted to {epochs} epochs; in the search it had {trial.epochs}: vattn train {out}",
    ]
