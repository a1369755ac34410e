"""Read a spec file and check the whole of it, every combination of its ranges included; report all problems at once.

A space with too many combinations is sampled instead.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice, product
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from search.spec.config_tree import config_tree
from search.spec.expectations import expectation_problems
from search.spec.messages import MAX_PROBLEMS, SpecError, problems
from search.spec.schema import Spec
from search.spec.store import too_small, with_size
from search.spec.teacher import with_teachers
from search.spec.yaml_reader import read
from spaces.space import RANGES, Params, Problem, Space, SpaceError, Tree
from vattn.base import Config
from vattn.config import TrialConfig
from vattn.errors import UserError
from vattn.weights.statistics import recorded

#: number of combinations up to which a space is enumerated
MAX_COMBINATIONS = 100_000
#: number of samples of a larger space
NUM_SAMPLES = 2_000
#: number of problems at which a check stops: many combinations break the same few rules
_ENOUGH_PROBLEMS = 50 * MAX_PROBLEMS
#: the parts of a data config that may be ranges; all trials share one clip cache, which depends on the other parts
_SEARCHABLE = ("sampling", "views", "augment")


def load(path: Path, sets: Sequence[str] = ()) -> Spec:
    """Return the spec in a YAML file, with overrides ``a.b=value``, and check all of it. Raises SpecError."""
    tree = read(path, sets)
    required = {name for name, field in TrialConfig.model_fields.items() if field.is_required()}
    if "trial" not in tree and required <= tree.keys():
        named = re.search(r"^# .*: (trial \d+ of the search .*?) \(", path.read_text(encoding="utf-8"), re.MULTILINE)
        what = f", {named[1]}," if named else ","
        raise UserError(
            f"is the config of one model{what} not the spec of a search",
            file=path,
            way_out=f"train it (vattn train {path}), or print its cost (vattn cost {path})",
        )
    return parse(tree, path)


def parse(tree: Tree, path: Path) -> Spec:
    """Return the spec in ``tree``, and check all of it. Raises SpecError, in which each line begins with ``path``."""
    mistakes: list[Problem] = []
    spec, auto = None, False
    if isinstance(tree.get("trial"), dict):
        trial, auto = with_size(with_teachers(tree["trial"], path, ("trial",)))
        tree = tree | {"trial": trial}
    try:
        spec = Spec.parse(tree)
    except ValidationError as error:
        mistakes += problems(error, Spec, tree)
    if isinstance(tree.get("trial"), dict):
        mistakes += _trial_problems(tree["trial"])
    if spec is not None and not mistakes:
        mistakes += expectation_problems(spec)
    if mistakes or spec is None:
        raise SpecError.of(path, mistakes)
    spec._file, spec._chooses_store = path, auto  # pyright: ignore[reportAttributeAccessIssue]  # not frozen
    return spec


def load_config(path: Path, sets: Sequence[str] = ()) -> TrialConfig:
    """Return the complete config in a YAML file, as `vattn export` writes it, with overrides ``a.b=value``.

    Raises SpecError for problems of the config, and UserError for a spec in place of a config.
    """
    return read_config(path, sets)[0]


def read_config(path: Path, sets: Sequence[str] = ()) -> tuple[TrialConfig, bool, bool]:
    """Return the config that `load_config` returns, and what was auto.

    That is whether its ``data.store`` is auto: it has a size only; and whether its ``data.normalize`` was auto and is
    replaced, as a file of weights decides it.
    """
    tree = config_tree(path, sets)
    if {"trial", "search"} <= tree.keys():
        raise UserError(
            "must be one config, and is the spec of a search",
            file=path,
            way_out=f"run that (vattn run {path}), and export one (vattn export RUN --pick knee --out FILE.yaml)",
        )
    tree, auto = with_size(with_teachers(tree, path))
    try:
        given = TrialConfig.parse(tree)
    except ValidationError as error:
        raise SpecError.of(path, problems(error, TrialConfig, tree)) from None
    config = recorded(given)
    return config, auto, config is not given


def combinations(space: Space) -> tuple[Iterator[tuple[Params, Tree]], bool]:
    """Return all combinations of a space and True, or samples and False if there are more than `MAX_COMBINATIONS`."""
    size = space.size()
    if size is not None and size <= MAX_COMBINATIONS:
        return space.enumerate(), True
    rng = random.Random(0)
    return (space.sample(rng) for _ in range(NUM_SAMPLES)), False


def _trial_problems(trial: Tree) -> list[Problem]:
    """Return the problems of a spec's trial section, a mapping."""
    sections = TrialConfig.model_fields
    needed = [key for key, field in sections.items() if field.is_required()]
    if RANGES.keys() & trial.keys():
        return [Problem(("trial",), f"must be a mapping of {', '.join(needed)}; put ranges inside of these")]
    mistakes = [Problem(("trial", key), "is missing; add it") for key in needed if key not in trial]
    unknown = [key for key in trial if key not in sections]
    mistakes += [Problem(("trial", key), f"unknown key; known here: {', '.join(sections)}") for key in unknown]
    try:
        space = Space(trial, ("trial",))
    except SpaceError as error:
        return [*mistakes, *error.problems]
    for name in space.domains:
        section, *inside = re.split(r"[./]", name)
        if section == "task":
            mistakes.append(Problem(("trial", "task"), "is one task for all trials; write classification or detection"))
        if section == "data" and (not inside or inside[0] not in _SEARCHABLE):
            rule = f"trials share one clip cache, so of data only {', '.join(_SEARCHABLE)} may vary; write one value"
            mistakes.append(Problem(("trial", *name.split("/")[0].split(".")), rule))
    # Check each section alone first: only the rules for a whole trial depend on several sections.
    valid = {key: _valid(space.part(key), key, mistakes) for key in sections if key in trial}
    if isinstance(trial.get("data"), dict) and trial["data"].get("split") == "all":
        rule = "a search compares trials on one split; take 1, 2 or 3, and all for `vattn train` of what it found"
        mistakes.append(Problem(("trial", "data", "split"), rule, "all"))
    if {"data", "model"} <= valid.keys() and valid["data"]:
        datas: Any = [data for _, data in valid["data"]]
        models: Any = [model for _, model in valid["model"]]
        if problem := too_small(datas, models):
            mistakes.append(replace(problem, path=("trial", *problem.path)))
    return mistakes or _combined_problems(space, valid)


def _valid(space: Space, section: str, mistakes: list[Problem]) -> list[tuple[Params, Config]]:
    """Return the valid configs among the combinations of a section; add the problems of the others to ``mistakes``.

    Each is checked once: both the changes of one range at a time, which come first, and the combinations contain some.
    """
    field = TrialConfig.model_fields[section]
    adapter: Any = TypeAdapter(Annotated[field.annotation, field])  # pyright: ignore
    before, configs, seen = len(mistakes), [], set[str]()
    for params, tree in chain(space.one_at_a_time(), combinations(space)[0]):
        text = json.dumps(tree)
        if text in seen:
            continue
        seen.add(text)
        try:
            configs.append((params, adapter.validate_json(text)))
        except ValidationError as error:
            for problem in problems(error, field.annotation, tree):
                mistakes.append(replace(problem, path=("trial", section, *space.locate(problem.path, params))))
            if len(mistakes) - before > _ENOUGH_PROBLEMS:
                break
    return configs


def _combined_problems(space: Space, valid: Mapping[str, list[tuple[Params, Config]]]) -> list[Problem]:
    """Return the problems of trials made of valid sections.

    All combinations of the sections' configs are checked; if there are too many, each config in at least one.
    """
    lengths = [len(configs) for configs in valid.values()]
    trials = product(*valid.values())
    if prod(lengths) > MAX_COMBINATIONS:
        trials = islice(zip(*map(cycle, valid.values()), strict=True), max(lengths))
    mistakes = []
    for sections in trials:
        configs = dict(zip(valid, (config for _, config in sections), strict=True))
        try:
            TrialConfig(**configs)  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            params = {name: value for chosen, _ in sections for name, value in chosen.items()}
            tree = {key: config.tree() if isinstance(config, Config) else config for key, config in configs.items()}
            for problem in problems(error, TrialConfig, tree):
                mistakes.append(replace(problem, path=("trial", *space.locate(problem.path, params))))
            if len(mistakes) > _ENOUGH_PROBLEMS:
                break
    return mistakes
