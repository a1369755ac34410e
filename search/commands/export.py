"""`vattn export`: write one trial of a search as a complete config, and copy its weights."""

import math
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from filecmp import cmp
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import ValidationError

from search.analysis.certainty import certainty
from search.analysis.front import settled
from search.analysis.intervals import Estimate, num_clips
from search.analysis.pick import pick
from search.commands._deploy import Forms, deploy
from search.commands._model_files import LAST, write_trained
from search.commands._origin import origin_line
from search.ledger.history import History, Trial
from search.ledger.remote import Remote, is_url
from search.ledger.runs import open_folder, open_run
from search.report.wording.program import program
from search.report.wording.trials import describe, describe_memory
from search.report.wording.values import format_estimate, format_metric
from search.spec.exported import SECTION, Expected, Exported
from search.spec.messages import problems
from vattn.config import TrainConfig, TrialConfig
from vattn.cost import costs_of
from vattn.data import listed
from vattn.data.cache import is_cache
from vattn.data.dataset import Listed
from vattn.data.fingerprint import fingerprint
from vattn.errors import UserError
from vattn.files import at_home, replacing, write_whole, writing
from vattn.trained.file import FILE, is_model
from vattn.training.recipe.length import with_length


def run(arguments: Namespace) -> None:
    """Export the trial that the command line picks, or deploy a trained model."""
    forms = Forms(arguments.onnx, arguments.torch_export, arguments.card, arguments.register, arguments.tracking)
    source = at_home(arguments.search)
    if is_model(source) or (source / FILE).is_file():
        if arguments.pick or arguments.out or arguments.weights or arguments.epochs:
            rule = "is of a search, and a trained model is named"
            raise UserError(rule, path="--pick, --out, --weights and --epochs", way_out="leave them out")
        deploy(source if is_model(source) else source / FILE, forms, arguments.clips, arguments.force)
        return
    if missing := [name for name, value in (("--pick", arguments.pick), ("--out", arguments.out)) if not value]:
        open_run(arguments.search)
        raise UserError("is missing", path=" and ".join(missing), way_out="give it to export a trial of a search")
    run, force = arguments.search, arguments.force
    trial = export(run, arguments.pick, arguments.out, arguments.weights, arguments.epochs, force)
    if forms:
        _deploy_trial(run, trial, forms, arguments.clips, force)


def _deploy_trial(run: str, trial: Trial, forms: Forms, clips: Sequence[Path], force: bool) -> None:
    """Deploy the weights of a trial of a search."""
    history, folder = open_folder(run)
    output = folder.resolve()
    weights = _weights_of(run, output, trial.number)
    if not weights.is_file():
        message = f"the weights of trial {trial.number} are gone"
        raise UserError(message, file=weights, way_out="train the exported config, and export its model.safetensors")
    with TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        config = TrialConfig.parse(_with_absolute_folders(trial.run_config, history.places, output))
        write_trained(file, config, weights, _about(history, trial))
        deploy(file, forms, clips, force, config, output)


def _weights_of(run: str, output: Path, number: int) -> Path:
    """Return the file of a trial's trained weights, which may be gone; it is fetched if the search is in a store."""
    key = f"trials/{number:04d}/{LAST}"
    if is_url(run):
        Remote(run).download(key, output / key)
    return output / key


def _about(history: History, trial: Trial) -> dict[str, Any]:
    """Return the provenance of the weights of a trial."""
    metrics = trial.reports[-1].metrics if trial.reports else {}
    clips = {split: count for split in ("train", "val", "test") if (count := num_clips(history, split))}
    return {
        "weights": "last epoch", "epoch": trial.epoch, "epochs": trial.epochs, "metrics": metrics, "split": "val",
        "clips": clips, "search": {"name": history.name, "id": history.began.id, "trial": trial.number},
    }  # fmt: skip


def export(
    run: str, rule: str, out: Path, weights: Path | None, epochs: int | None = None, force: bool = False
) -> Trial:
    """Write a trial of a search to ``out`` as a complete config, print the names of the files written, and return it.

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
    history, folder = open_folder(run)
    output = folder.resolve()
    trial = pick(history, history.objectives, rule)
    copies: dict[Path, Path] = {}
    if weights:
        source = _weights_of(run, output, trial.number)
        if not source.is_file():
            message = f"the weights of trial {trial.number} are gone"
            raise UserError(message, file=source, way_out="export without --weights, and train the exported config")
        copies[weights / LAST] = source
    config = _with_absolute_folders(trial.run_config, history.places, output)
    if start := _initial_weights(run, trial, output):
        if weights:
            copies[weights.absolute() / "start.pt"] = start
            start = weights.absolute() / "start.pt"
        config["train"] = config["train"] | {"init": str(start)}
    if epochs is not None:
        config["train"] = with_length(config["train"], epochs)
        _check_length(config, epochs)
    exported = _exported(history, trial, config, output)
    header = "".join(f"# {line}\n" for line in _header(history, trial, output, out, epochs, exported))
    section = {SECTION: exported.model_dump(mode="json", exclude_defaults=True)}
    text = header + yaml.safe_dump(config | section, sort_keys=False, allow_unicode=True)
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
        print(f"its weights are in {weights / LAST}")
        if parsed := _parsed(config):
            _write_model(weights / FILE, parsed, weights / LAST, _about(history, trial))
    length = config["train"].get("epochs")
    if epochs is None:
        print(f"it trains {length} epochs, as in the search; for another length, export it with --epochs N")
    print(f"next: {program()} {shlex.join(['train', str(out)])}")
    return trial


def _write_model(file: Path, config: TrialConfig, weights: Path, about: Mapping[str, Any]) -> None:
    """Write a trained model, unless its classes are not known, and say how to use it."""
    try:
        write_trained(file, config, weights, about)
    except UserError as error:
        print(f"without {file}, which would stand on its own: {error}", file=sys.stderr)
        return
    print(f"it stands on its own: {program()} {shlex.join(['predict', str(file)])} VIDEO")


def _parsed(config: dict[str, Any]) -> TrialConfig | None:
    """Return a config; None if it is one of an earlier version that is no longer valid."""
    try:
        return TrialConfig.parse(config)
    except ValidationError:
        return None


def _exported(history: History, trial: Trial, config: dict[str, Any], output: Path) -> Exported:
    """Return what a trial was found by: its accuracy, costs, data and code."""
    sure = certainty(history, history.objectives)
    estimate = sure.estimate(trial)
    seeds = [each.config["train"].get("seed", 0) for each in trial.retrainings if each.state == "finished"]
    costs, data, parsed = dict(trial.cost), {}, _parsed(config)
    if parsed:
        try:
            costs |= costs_of(parsed.model, parsed.data.views, parsed.data.num_classes())
            files = listed(parsed.data, output, test=False, generate=False)
            data = fingerprint(files.manifest, parsed.data.labels(), _cache(files))
        except (UserError, OSError) as error:
            print(f"without a fingerprint of the data, which cannot be read: {error}", file=sys.stderr)
    known = estimate.is_known
    expected = Expected(
        metric=sure.name, value=estimate.value, low=estimate.low if known else None,
        high=estimate.high if known else None, clips=num_clips(history), epochs=trial.epoch,
        seeds=tuple(seeds or [trial.config["train"].get("seed", 0)]),
    ) if math.isfinite(estimate.value) else None  # fmt: skip
    return Exported(
        search=history.name,
        id=history.began.id,
        trial=trial.number,
        expected=expected,
        costs={name: float(f"{value:.6g}") for name, value in costs.items()},
        data=data,
        versions=history.began.versions,
    )  # fmt: skip


def _cache(files: Listed) -> Path | None:
    """Return the folder of the decoded clips; None if they were removed."""
    try:
        return files.plan.folder if is_cache(files.plan.folder) else None
    except (UserError, OSError):
        return None


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


def _initial_weights(run: str, trial: Trial, output: Path) -> Path | None:
    """Return the file of the weights that a trial inherited; None if it started from scratch."""
    if trial.source is None:
        return None
    file = _weights_of(run, output, trial.source)
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


def _header(
    history: History, trial: Trial, output: Path, out: Path, epochs: int | None, exported: Exported
) -> list[str]:
    """Return the comment lines of an exported config: its trial, its metrics, and how to train it."""
    names = dict.fromkeys([*history.objectives, *trial.cost])
    numbers = ", ".join(f"{name} {format_metric(name, trial.metrics[name])}" for name in names)
    confirmed = trial.number in {retrained.number for retrained in settled(history, history.objectives)}
    expected, costs = exported.expected, exported.costs
    lines = [
        origin_line(describe(trial), history, trial.number, output),
        f"After {trial.epoch} epochs of the search: {numbers}, on the validation split.",
        *([f"For lack of GPU memory it was trained {describe_memory(trial.memory)}."] if trial.memory else []),
        *([f"These metrics are the mean of {len(trial.fresh)} fresh seeds."] if confirmed else []),
    ]
    if expected and expected.low is not None and expected.high is not None:
        estimate = Estimate(expected.value, expected.low, expected.high)
        clips = f" on {expected.clips} clips" if expected.clips else ""
        lines.append(f"Expected {expected.metric}: {format_estimate(expected.metric, estimate)}, 95 % interval{clips}.")
    if {"gflops", "gflops_video", "params_m"} <= costs.keys():
        lines.append(
            f"It costs {costs['gflops']:.4g} GFLOPs a view, {costs['gflops_video']:.4g} GFLOPs a video in evaluation, "
            f"and has {costs['params_m']:.4g} million parameters."
        )
    seeds = f"Seed {', '.join(map(str, expected.seeds))}; " if expected else ""
    lines.append(f"{seeds}`vattn train` compares the section {SECTION} with data and code.")
    lines.append(
        f"It trains as in the search. For another length: vattn export --epochs N; then: vattn train {out}"
        if epochs is None
        else f"Its schedule was fitted to {epochs} epochs; in the search it had {trial.epochs}: vattn train {out}"
    )
    return lines
