"""`vattn export`: write one trial of a search as a complete config, and copy its weights."""

import shlex
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from search.analysis.front import settled
from search.analysis.pick import pick
from search.ledger.history import History, Trial
from search.ledger.runs import open_run, resolve_run
from search.report.wording.trials import describe, describe_memory
from search.report.wording.values import format_metric
from vattn.errors import UserError
from vattn.files import at_home, write_whole, writing


def run(arguments: Namespace) -> None:
    """Export the trial that the command line picks."""
    export(arguments.search, arguments.pick, arguments.out, arguments.weights)


def export(run: str, rule: str, out: Path, weights: Path | None) -> None:
    """Write a trial of a search to ``out`` as a complete config, and print the names of the files written.

    Folders in the config are absolute, so that it works from any working directory.

    Args:
        run: output folder or name of the search.
        rule: selects the trial, see `search.analysis.pick.pick`.
        out: the YAML file to write.
        weights: folder for copies of the weights, which are plain state dicts: ``model.pt`` has the trained weights,
            ``start.pt`` the weights that the trial inherited (its ``train.init``). None: no copies.

    Raises:
        UserError: no trial fits the rule, or the weights no longer exist.
    """
    history = open_run(run)
    output = resolve_run(run).resolve()
    trial = pick(history, history.objectives, rule)
    source = output / "trials" / f"{trial.number:04d}" / "model.pt"
    if weights and not source.is_file():
        message = f"the weights of trial {trial.number} are gone"
        raise UserError(message, file=source, way_out="export without --weights, and train the exported config")
    config = _with_absolute_folders(trial.run_config, output)
    initial_weights = _initial_weights(trial, output, weights)
    if initial_weights:
        config["train"] = config["train"] | {"init": str(initial_weights)}
    header = "".join(f"# {line}\n" for line in _header(history, trial, out))
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out, "make room, or name another place with --out"):
        write_whole(out, header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    print(
        f"trial {trial.number} is in {out}: {describe(trial)}; train it at full length with: "
        f"vattn train {shlex.quote(str(out))}"
    )
    if weights:
        weights.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, weights / "model.pt")
        print(f"its weights are in {weights / 'model.pt'}")


def _initial_weights(trial: Trial, output: Path, copy_to: Path | None) -> Path | None:
    """Return the file of the weights that a trial inherited, or of their copy in ``copy_to``; None if from scratch."""
    if trial.source is None:
        return None
    file = output / "trials" / f"{trial.source:04d}" / "model.pt"
    if not file.is_file():
        raise UserError(
            f"the weights that trial {trial.number} started with are gone, without which it cannot be trained again",
            file=file,
            way_out="pick another trial",
        )
    if copy_to is None:
        return file
    copy_to.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(file, copy_to.absolute() / "start.pt"))


def _with_absolute_folders(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Return a trial's config with absolute data folders; a folder ``auto`` is the one in the output folder."""
    data = dict(config["data"])
    auto_folders = {"root": output / "data" / data["kind"], "cache": output / "cache"}
    for key, auto_folder in auto_folders.items():
        folder = data.get(key, "auto")
        data[key] = str(auto_folder if folder == "auto" else at_home(folder).absolute())
    return config | {"data": data}


def _header(history: History, trial: Trial, out: Path) -> list[str]:
    """Return the comment lines of an exported config: its trial, its metrics, and how to train it."""
    names = dict.fromkeys([*history.objectives, *trial.cost])
    numbers = ", ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in names)
    confirmed = trial.number in {retrained.number for retrained in settled(history, history.objectives)}
    return [
        f"{describe(trial)}: trial {trial.number} of the search {history.name} ({history.began.id}).",
        f"After {trial.epoch} epochs of the search: {numbers}, on the validation split.",
        *([f"For lack of GPU memory it was trained {describe_memory(trial.memory)}."] if trial.memory else []),
        *([f"These metrics are the mean of {len(trial.fresh)} fresh seeds."] if confirmed else []),
        f"Set train.epochs and train.lr for a training at full length; then: vattn train {out}",
    ]
