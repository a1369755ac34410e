"""The spec file: what is searched, for what, within what limits and with what means. Every corner of it is checked."""

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

from search.spec.messages import MAX_PROBLEMS, problems, spec_error
from search.spec.schema import Spec
from search.spec.yaml_reader import read
from spaces.space import RANGES, Params, Problem, Space, SpaceError, Tree
from vattn.base import Config
from vattn.config import TrialConfig

#: spaces of up to so many combinations are gone through whole; of larger ones so many samples are taken
MAX_COMBINATIONS, NUM_SAMPLES = 100_000, 2_000


#: the parts of a data config that may be ranges; on the others the clip cache depends, which all trials share
SEARCHABLE = ("sampling", "views", "augment")


def load(path: Path, sets: Sequence[str] = ()) -> Spec:
    """Read a spec file, with overrides ``a.b=value``, and check every corner of it; raises SpecError."""
    return parse(read(path, sets), path)


def parse(tree: Tree, path: Path) -> Spec:
    """Return the spec in a tree and check every corner of it; raises SpecError whose lines begin with ``path``."""
    found: list[Problem] = []
    spec = None
    try:
        spec = Spec.parse(tree)
    except ValidationError as error:
        found += problems(error, Spec, tree)
    if isinstance(tree.get("trial"), dict):
        found += _trial_problems(tree["trial"])
    if found or spec is None:
        raise spec_error(path, found)
    spec._file = path  # pyright: ignore[reportAttributeAccessIssue]  # private, and so not frozen
    return spec


def load_config(path: Path, sets: Sequence[str] = ()) -> TrialConfig:
    """Read a complete config, as `vattn export` writes one, with overrides ``a.b=value``; raises SpecError."""
    tree = read(path, sets)
    if {"trial", "search"} <= tree.keys():
        raise ValueError(
            f"{path}: must be one config, and is the spec of a search; run that (vattn run {path}), and export one "
            "(vattn export RUN --pick knee --out FILE.yaml)"
        )
    try:
        return TrialConfig.parse(tree)
    except ValidationError as error:
        raise spec_error(path, problems(error, TrialConfig, tree)) from None


def corners(space: Space) -> tuple[Iterator[tuple[Params, Tree]], bool]:
    """Return all combinations of a space and True; if it has more than `MAX_COMBINATIONS`, samples and False."""
    size = space.size()
    if size is not None and size <= MAX_COMBINATIONS:
        return space.enumerate(), True
    rng = random.Random(0)
    return (space.sample(rng) for _ in range(NUM_SAMPLES)), False


def _trial_problems(trial: Tree) -> list[Problem]:
    sections = TrialConfig.model_fields
    if RANGES.keys() & trial.keys():
        return [Problem(("trial",), f"must be a mapping of {', '.join(sections)}; put ranges inside of these")]
    found = [Problem(("trial", key), "is missing; add it") for key in sections if key not in trial]
    unknown = [key for key in trial if key not in sections]
    found += [Problem(("trial", key), f"unknown key; known here: {', '.join(sections)}") for key in unknown]
    try:
        space = Space(trial, ("trial",))
    except SpaceError as error:
        return [*found, *error.problems]
    for name in space.domains:
        section, *inside = re.split(r"[./]", name)
        if section == "data" and (not inside or inside[0] not in SEARCHABLE):
            rule = f"trials share one clip cache, so of data only {', '.join(SEARCHABLE)} may vary; write one value"
            found.append(Problem(("trial", *name.split("/")[0].split(".")), rule))
    # Each section for itself first: what one allows does not depend on the others, but for the rules of a whole trial.
    valid = {key: _valid(space.part(key), key, found) for key in sections if key in trial}
    if isinstance(trial.get("data"), dict) and trial["data"].get("split") == "all":
        rule = "a search compares trials on one split; take 1, 2 or 3, and all for `vattn train` of what it found"
        found.append(Problem(("trial", "data", "split"), rule, "all"))
    return found or _trial_rules(space, valid)


def _valid(space: Space, section: str, found: list[Problem]) -> list[tuple[Params, Config]]:
    """Return the configs at the corners of a section of a trial; add to ``found`` what is wrong with them."""
    field = TrialConfig.model_fields[section]
    recipe: Any = TypeAdapter(Annotated[field.annotation, field])  # pyright: ignore
    known, configs = len(found), []
    for params, tree in chain(space.one_at_a_time(), corners(space)[0]):
        try:
            configs.append((params, recipe.validate_json(json.dumps(tree))))
        except ValidationError as error:
            for problem in problems(error, field.annotation, tree, ("trial", section)):
                found.append(replace(problem, path=("trial", section, *space.locate(problem.path, params))))
            # Many corners break the same few rules.
            if len(found) - known > 50 * MAX_PROBLEMS:
                break
    return configs


def _trial_rules(space: Space, valid: Mapping[str, list[tuple[Params, Config]]]) -> list[Problem]:
    """Return what is wrong with valid sections in one trial: all combinations, or each config at least once."""
    lengths = [len(configs) for configs in valid.values()]
    combinations = product(*valid.values())
    if prod(lengths) > MAX_COMBINATIONS:
        combinations = islice(zip(*map(cycle, valid.values()), strict=True), max(lengths))
    found = []
    for sections in combinations:
        configs = dict(zip(valid, (config for _, config in sections), strict=True))
        try:
            TrialConfig(**configs)  # pyright: ignore[reportArgumentType]
        except ValidationError as error:
            params = {name: value for chosen, _ in sections for name, value in chosen.items()}
            for problem in problems(error, TrialConfig, {key: config.tree() for key, config in configs.items()}):
                found.append(replace(problem, path=("trial", *space.locate(problem.path, params))))
            if len(found) > 50 * MAX_PROBLEMS:
                break
    return found
