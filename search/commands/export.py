"""`vattn export`: writes one trial of a search as a config, and its weights, that work on their own."""

import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml

from search.analysis.front import settled
from search.analysis.pick import pick
from search.ledger.history import History, Trial
from search.ledger.runs import open_run, resolve_run
from search.report.wording.trials import describe
from search.report.wording.values import format_metric
from vattn.errors import UserError
from vattn.files import write_whole, writing


def run(arguments: Namespace) -> None:
    """Export the trial that the command line picks."""
    export(arguments.search, arguments.pick, arguments.out, arguments.weights)


def export(run: str, rule: str, out: Path, weights: Path | None) -> None:
    """Write the trial that ``rule`` picks (see `search.analysis.front.pick`) to ``out`` as a complete config.

    Folders in it are absolute, so that it works from any place. With ``weights``, the trained weights are copied there
    as ``model.pt``, a plain state dict; weights that the trial inherited, its ``train.init``, as ``start.pt``. Prints
    what was written. Raises UserError where no trial fits the rule or the weights no longer exist.
    """
    history = open_run(run)
    output = resolve_run(run).resolve()
    trial = pick(history, history.objectives, rule)
    source = output / "trials" / f"{trial.number:04d}" / "model.pt"
    if weights and not source.is_file():
        rule = f"the weights of trial {trial.number} are gone"
        raise UserError(rule, file=source, way_out="train them anew from the config")
    config = resolved(trial.config, output)
    start = _start(trial, output, weights)
    if start:
        config["train"] = config["train"] | {"init": str(start)}
    head = "".join(f"# {line}\n" for line in _head(history, trial, out))
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out, "make room, or name another place with --out"):
        write_whole(out, head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    print(f"trial {trial.number} is in {out}: {describe(trial)}; train it at full length with: vattn train {out}")
    if weights:
        weights.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, weights / "model.pt")
        print(f"its weights are in {weights / 'model.pt'}")


def _start(trial: Trial, output: Path, copies: Path | None) -> Path | None:
    """Return the file of the weights that a trial started with, copied to ``copies`` if given; None: from scratch."""
    if trial.source is None:
        return None
    file = output / "trials" / f"{trial.source:04d}" / "model.pt"
    if not file.is_file():
        raise UserError(
            f"the weights that trial {trial.number} started with are gone, without which it cannot be trained again",
            file=file,
            way_out="pick another trial",
        )
    if copies is None:
        return file
    copies.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(file, copies.absolute() / "start.pt"))


def resolved(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Return a trial's config with the folders of its data as absolute paths; ``auto`` ones are in ``output``."""
    data = dict(config["data"])
    places = {"root": output / "data" / data["kind"], "cache": output / "cache"}
    for key, place in places.items():
        given = data.get(key, "auto")
        data[key] = str(place if given == "auto" else Path(given).expanduser().absolute())
    return config | {"data": data}


def _head(history: History, trial: Trial, out: Path) -> list[str]:
    names = dict.fromkeys([*history.objectives, *trial.cost])
    numbers = ", ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in names)
    confirmed = trial.number in {retrained.number for retrained in settled(history, history.objectives)}
    return [
        f"{describe(trial)}: trial {trial.number} of the search {history.name} ({history.began.id}).",
        f"After {trial.epoch} epochs there: {numbers}, on the validation split.",
        *([f"These are the mean of {len(trial.fresh)} fresh seeds."] if confirmed else []),
        f"Set train.epochs and train.lr for a training at full length; then: vattn train {out}",
    ]
