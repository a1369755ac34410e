"""`vattn compare`: two tests clip by clip, two trials of a search, two trainings, or two configs."""

import json
import math
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from search.analysis.certainty import certainty
from search.analysis.intervals import Estimate, by_clips, difference
from search.commands._resume import CONFIG
from search.commands._spec import config_file
from search.ledger.runs import open_run
from search.report.clips.format import SUFFIX, read_test
from search.report.clips.paired import Comparison, compared
from search.report.clips.pictures import Strip, draw_strips
from search.report.clips.tables import gain_table, length_table, whole_line
from search.report.page.table import Table
from search.report.tables.columns import align
from search.report.tracking.training import flat
from search.report.wording.trials import describe
from search.report.wording.values import format_estimate, format_gain, format_metric, significance
from search.spec.validation import load_config
from vattn.config import TrialConfig
from vattn.cost import costs_of
from vattn.data import open_clips
from vattn.errors import UserError
from vattn.files import at_home, replacing, write_whole, writing
from vattn.trained.file import FILE, read_model

#: classes that are printed, at each end
_CLASSES = 10
#: clips of a picture, and frames of a clip
_STRIPS, _FRAMES = 6, 8
_FORMS = "two FILE.parquet of `vattn test --out`, RUN TRIAL TRIAL, two output folders of `vattn train`, or two configs"
_ROOM = "make room, or name another place with --out"


@dataclass(frozen=True)
class Side:
    """One of two models that are compared by what is known of them."""

    name: str
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    measured: str = ""
    """name of the measured metric; empty if there is none"""
    estimate: Estimate = field(default=Estimate(math.nan))


def run(arguments: Namespace) -> None:
    """Compare what the command line names."""
    named = arguments.what
    if all(name.endswith(SUFFIX) for name in named) and len(named) == 2:
        files = [at_home(name) for name in named]
        tests = [replace(read_test(file), name=name) for file, name in zip(files, _distinct(files), strict=True)]
        _compare_tests(compared(*tests), arguments.out, arguments.json)
        return
    if arguments.out:
        raise UserError(
            "must be left out, as there are no results clip by clip", path="--out", way_out=f"name {_FORMS}"
        )
    if len(named) == 3:
        a, b = _trials(*named)
    elif len(named) == 2:
        a, b = (_model(name) for name in named)
    else:
        raise UserError(f"must be {_FORMS}", path="compare", found=" ".join(named))
    _compare_models(a, b, arguments.json)


def _compare_tests(comparison: Comparison, out: Path | None, as_json: bool) -> None:
    classes, lengths = gain_table(comparison), length_table(comparison)
    if as_json:
        print(json.dumps(_tree(comparison), indent=2))
    else:
        print(whole_line(comparison))
        if comparison.left_out:
            print(f"{comparison.left_out} clips are in one of the tests only, and are left out")
        _print(classes, _CLASSES)
        if lengths.rows:
            _print(lengths, len(lengths.rows))
    if out is None:
        return
    with writing(out, _ROOM):
        out.mkdir(parents=True, exist_ok=True)
        written = [out / f"{table.name}.csv" for table in (classes, lengths)]
        for table, file in zip((classes, lengths), written, strict=True):
            write_whole(file, table.csv())
    written += _write_strips(comparison, out)
    print("\n".join(map(str, written)), file=sys.stderr if as_json else sys.stdout)


def _print(table: Table, ends: int) -> None:
    """Print a table; of many rows, those at each end."""
    rows, more = list(table.rows), len(table.rows) - 2 * ends
    if more > 0:
        rows = [*rows[:ends], [f"{more} more", *[""] * (len(table.head) - 1)], *rows[-ends:]]
    print(f"\n{table.title}\n" + align([list(table.head), *map(list, rows)], 0))


def _tree(comparison: Comparison) -> dict[str, Any]:
    def of(pair: Any) -> dict[str, Any]:
        return {
            "clips": pair.clips, "a": pair.a.value, "b": pair.b.value, "gain": pair.gain.value,
            "interval": [pair.gain.low, pair.gain.high], "gained": pair.gained, "lost": pair.lost, "p": pair.p,
        }  # fmt: skip

    return {
        "a": comparison.a.name, "b": comparison.b.name, "left_out": comparison.left_out, "all": of(comparison.whole),
        "classes": [{"class": each.name, **of(each.pair), "p_holm": each.adjusted} for each in comparison.classes],
        "lengths": [{"frames": [low, high], **of(pair)} for low, high, pair in comparison.lengths],
    }  # fmt: skip


def _write_strips(comparison: Comparison, out: Path) -> list[Path]:
    """Draw the clips that only one model got right, and those that both got most wrong; return the files."""
    a, b = comparison.a, comparison.b
    rows = np.arange(len(a.labels))
    of_class = [test.probabilities[rows, test.labels] for test in (a, b)]
    groups = {
        "gained": (~a.right & b.right, of_class[1] - of_class[0], f"only {b.name} is right"),
        "lost": (a.right & ~b.right, of_class[0] - of_class[1], f"only {a.name} is right"),
        "both-wrong": (~a.right & ~b.right, -(of_class[0] + of_class[1]), "both are wrong"),
    }
    known = next((test.about for test in (b, a) if {"cache", "split"} <= test.about.keys()), None)
    if known is None or not Path(known["cache"]).is_dir():
        print("no pictures: the decoded clips of these tests are gone", file=sys.stderr)
        return []
    clips, files = open_clips(Path(known["cache"]), known["split"]), []
    place = {(path, *span): n for n, (path, span) in enumerate(zip(clips.paths, clips.spans.tolist(), strict=True))}
    test = b if known is b.about else a
    for name, (chosen, weight, title) in groups.items():
        numbers = np.flatnonzero(chosen)
        numbers = numbers[np.argsort(-weight[numbers], kind="stable")][:_STRIPS]
        strips = []
        for n in numbers.tolist():
            clip = place.get((test.paths[n], *test.spans[n].tolist()))
            if clip is None:
                continue
            length = clips.shapes.item(clip, 0)
            shown = sorted({(2 * i + 1) * length // (2 * _FRAMES) for i in range(_FRAMES)})
            text = "\n".join([
                test.paths[n], f"class {a.classes[a.labels[n]]}",
                *(f"{t.name}: {t.classes[t.predicted[n]]} {t.probabilities[n].max():.0%}" for t in (a, b)),
            ])  # fmt: skip
            strips.append(Strip(text, list(clips.frames(clip, shown)), shown))
        if strips:
            files.append(out / f"{name}.png")
            with writing(files[-1], _ROOM), replacing(files[-1]) as part:
                draw_strips(strips, f"{title}: {int(chosen.sum())} clips", part)
    return files


def _trials(run: str, *numbers: str) -> list[Side]:
    """Return two trials of a search."""
    history = open_run(run)
    sure = certainty(history, history.objectives)
    sides = []
    for number in numbers:
        trial = history.trials.get(int(number)) if number.isdecimal() else None
        if trial is None:
            raise UserError(
                f"must be the number of a trial, 0 to {max(history.trials, default=0)}", file=run, path="compare",
                found=number,
            )  # fmt: skip
        name = f"trial {trial.number}, {describe(trial)}"
        sides.append(Side(name, trial.run_config, trial.cost, sure.name, sure.estimate(trial)))
    return sides


def _distinct(files: list[Path]) -> list[str]:
    """Return the names of files without suffix, with as many of their folders as tell them apart."""
    for count in range(1, max(len(file.parts) for file in files) + 1):
        names = ["/".join(file.with_suffix("").parts[-count:]) for file in files]
        if len({*names}) == len(files):
            return names
    return [file.stem for file in files]


def _model(name: str) -> Side:
    """Return a training by its output folder, or a config by its file."""
    folder = at_home(name)
    if not (folder.is_dir() and (folder / CONFIG).is_file()):
        config = load_config(config_file(folder))
        return Side(name, config.tree(), _costs(config))
    config, estimate = load_config(folder / CONFIG), Estimate(math.nan)
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        estimate = by_clips("top1", float(metrics["top1"]), _val_clips(folder))
    except (OSError, ValueError, KeyError, TypeError):
        print(f"{folder}: has no metrics.json of a finished training", file=sys.stderr)
    return Side(name, config.tree(), _costs(config), "top1", estimate)


def _val_clips(folder: Path) -> int | None:
    """Return the number of validation clips of a training; None if it is not known."""
    try:
        return int(read_model(folder / FILE).provenance["clips"]["val"])
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _costs(config: TrialConfig) -> dict[str, float]:
    try:
        classes = config.data.num_classes()
    except UserError:
        return {}
    return costs_of(config.model, config.data.views, classes)


def _compare_models(a: Side, b: Side, as_json: bool) -> None:
    """Print in which values two configs differ, what they cost, and how accurate they are."""
    left, right = flat(_plain(a.config)), flat(_plain(b.config))
    changed = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    gain = difference(b.estimate, a.estimate)
    if as_json:
        tree = {
            "a": a.name, "b": b.name, "differ": {key: [left.get(key), right.get(key)] for key in changed},
            "costs": {name: [a.costs[name], b.costs[name]] for name in a.costs if name in b.costs},
        }  # fmt: skip
        if a.measured and math.isfinite(gain.value):
            tree |= {"measured": a.measured, "values": [a.estimate.value, b.estimate.value], "gain": gain.value,
                     "interval": [gain.low, gain.high] if gain.is_known else None}  # fmt: skip
        print(json.dumps(tree, indent=2))
        return
    rows = [["", a.name, b.name]]
    if a.measured:
        rows.append([a.measured, *(format_estimate(a.measured, side.estimate) for side in (a, b))])
    rows += [[name, *(format_metric(name, side.costs[name]) for side in (a, b))] for name in a.costs if name in b.costs]
    rows += [
        [key, *(json.dumps(values.get(key)) if key in values else "-" for values in (left, right))] for key in changed
    ]
    print(align(rows, 0))
    if not changed:
        print("the configs are the same")
    if math.isfinite(gain.value):
        verdict = f": {significance(gain.excludes_zero)}" if gain.is_known else ""
        print(f"difference in {a.measured}: {format_gain(a.measured, gain)}{verdict}")
        print("for classes and a paired test, test both clip by clip (vattn test --out) and compare the files")


def _plain(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with all defaults, without the places of its files; of another version, as it is."""
    try:
        config = TrialConfig.parse(tree)
    except ValidationError:
        return tree
    return config.model_copy(update={"data": config.data.canonical()}).tree()
