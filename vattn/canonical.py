"""Canonical forms of configs, and the identities that follow from them.

Configs that describe the same network or the same trial have the same canonical form, and therefore the same identity.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, get_args

from vattn.base import Config, identity
from vattn.config import ModelConfig, TrialConfig
from vattn.modules import ModuleConfig, Pathway, Position, selects
from vattn.normalization import IMAGENET, named
from vattn.training.start import as_identity
from vattn.weights.statistics import stated


def canonical_model(model: ModelConfig) -> ModelConfig:
    """Return the canonical form of a network's config.

    * A mechanism without a site is removed, and so is each stage in which it has none.
    * Options without effect get their default values.
    * ``every`` is the smallest value that selects the same blocks.
    * The order of mechanisms matters only where they share sites. Otherwise they are sorted, and entries that can be
      merged are one entry.
    """
    sparse = "none" if model.sparse == "none" else model.sparse.canonical()
    detector = "none" if model.detector == "none" else model.detector.canonical()
    return model.model_copy(update={"attention": _attention(model), "sparse": sparse, "detector": detector})


def canonical_trial(trial: TrialConfig) -> TrialConfig:
    """Return the canonical form of a trial's config. The places of its files and caches are not part of it.

    Statistics other than ImageNet's are part of it, whether they were written or followed from ``normalize: auto``.
    """
    # The backbone determines the number of frames per segment: any other value is refused.
    data = trial.data.canonical()
    sampling = data.sampling.model_copy(update={"frames_per_segment": "auto"})
    views = data.views
    if views.size == trial.model.size:
        views = views.model_copy(update={"size": "auto"})
    statistics = stated(trial.data, trial.model.backbone)
    normalize = "auto" if statistics.same(IMAGENET) else named(statistics)
    data = data.model_copy(update={"sampling": sampling, "views": views, "normalize": normalize})
    train, model = trial.train.canonical(), trial.model
    if train.init != "scratch":
        model = as_identity(model)
    if train.init == "identity":
        # `as_identity` has set it in each mechanism.
        train = train.model_copy(update={"init": "scratch"})
    model = canonical_model(model)
    if not model.attention:
        train = train.model_copy(update={"rates": train.rates.model_copy(update={"new": 1.0})})
    return trial.model_copy(update={"data": data, "model": model, "train": train})


def architecture_id(model: ModelConfig) -> str:
    """Return the identity of a network: 16 hexadecimal digits of the hash of its canonical form."""
    return identity(canonical_model(model).identity_tree())


def trial_id(trial: TrialConfig) -> str:
    """Return the identity of a trial, including its seed: 16 hexadecimal digits of the hash of its canonical form."""
    return identity(canonical_trial(trial).identity_tree())


#: Differences that a message names.
MAX_DIFFERENCES = 5


def differences(old: Config, new: Config) -> list[str]:
    """Return a text for each value in which two configs differ: its path, the new value, and the old one."""
    return [text for _, text in changes(old.tree(), new.tree())]


def changes(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each value in which two trees differ, and a text: the path, the new value, and the old one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*new, *old]):
            yield from changes(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from changes(*pair, f"{where}[{index}]")
    elif old != new:
        yield where, f"{where} ({json.dumps(new)}, and was {json.dumps(old)})"


#: Numbers of the blocks that have a site, by stage, position and pathway.
Blocks = dict[tuple[int, Position, Pathway], list[int]]
#: A mechanism, and the same without `stages` and `every`.
Bare = tuple[ModuleConfig, ModuleConfig]
#: Mechanisms at one position, without `stages` and `every`, each with its `every` by stage.
Entries = list[tuple[ModuleConfig, dict[int, int]]]


def _attention(model: ModelConfig) -> tuple[ModuleConfig, ...]:
    """Return the list of mechanisms in canonical form, position by position."""
    blocks: Blocks = defaultdict(list)
    for site in model.backbone.sites(model.size):
        for pathway in get_args(Pathway):
            if pathway in ("both", site.pathway):
                blocks[site.stage, site.position, pathway].append(site.block)
    plain = [(m, m.canonical().model_copy(update={"stages": (), "every": 1})) for m in model.attention]
    canonical: list[ModuleConfig] = []
    for position in model.backbone.positions():
        entries: Entries = []
        for stage in model.backbone.stages():
            # Any two mechanisms in one stage share its first block, so their order matters within a stage, but not
            # across stages.
            start = 0
            for module, bare in _in_order([(m, b) for m, b in plain if m.position == position and stage in m.stages]):
                if blocks[stage, position, module.pathway]:
                    start = 1 + _add(bare, stage, module.every, entries, start, blocks)
        for bare, every in entries:
            common = _common_every(every, bare, blocks)
            canonical.append(bare.model_copy(update={"stages": tuple(every), "every": common}))
    return tuple(canonical)


def _in_order(mechanisms: Sequence[Bare]) -> Iterator[Bare]:
    """Yield the mechanisms of a stage: the order of those in different pathways has no effect, the fast one's first."""
    for in_both, group in groupby(mechanisms, key=lambda pair: pair[0].pathway == "both"):
        run = list(group)
        yield from run if in_both else sorted(run, key=lambda pair: pair[0].pathway)


def _add(bare: ModuleConfig, stage: int, every: int, entries: Entries, start: int, blocks: Blocks) -> int:
    """Add ``stage`` to the first entry at or after ``start`` that can include it, or to a new one; return its index."""
    for index in range(start, len(entries)):
        mechanism, stages = entries[index]
        if mechanism == bare and _common_every(stages | {stage: every}, bare, blocks):
            stages[stage] = every
            return index
    entries.insert(start, (bare, {stage: every}))
    return start


def _common_every(every: dict[int, int], bare: ModuleConfig, blocks: Blocks) -> int | None:
    """Return the smallest ``every`` that selects the same blocks as each stage's own ``every``, or None."""
    stages = [(blocks[stage, bare.position, bare.pathway], own) for stage, own in every.items()]
    for common in range(1, 2 + max(block for numbers, _ in stages for block in numbers)):
        if all(
            selects(b, common, bare.offset) == selects(b, own, bare.offset) for numbers, own in stages for b in numbers
        ):
            return common
    return None
