"""Canonical forms of configs, and the identities that follow from them.

Configs that describe the same network or the same trial have the same canonical form, and therefore the same identity.
"""

from collections import defaultdict

from vattn.base import identity
from vattn.config import ModelConfig, TrialConfig
from vattn.modules import ModuleConfig, Position
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
    return model.model_copy(update={"attention": _attention(model), "sparse": sparse})


def canonical_trial(trial: TrialConfig) -> TrialConfig:
    """Return the canonical form of a trial's config. The places of its files and caches are not part of it.

    Statistics other than ImageNet's are part of it, whether they were written or followed from ``normalize: auto``.
    """
    # The backbone determines the number of frames per segment: any other value is refused.
    sampling = trial.data.sampling.model_copy(update={"frames_per_segment": "auto"})
    statistics = stated(trial)
    normalize = "auto" if statistics.same(IMAGENET) else named(statistics)
    data = trial.data.canonical().model_copy(update={"sampling": sampling, "normalize": normalize})
    # These options change memory and time, but no result.
    train = trial.train.model_copy(update={"recompute": "none", "checkpoint_minutes": 10.0, "checkpoint_seconds": 30.0})
    model = trial.model
    if train.init != "scratch":
        model = as_identity(model)
    if train.init == "identity":
        # `as_identity` has set it in each mechanism.
        train = train.model_copy(update={"init": "scratch"})
    return trial.model_copy(update={"data": data, "model": canonical_model(model), "train": train})


def architecture_id(model: ModelConfig) -> str:
    """Return the identity of a network: 16 hexadecimal digits of the hash of its canonical form."""
    return identity(canonical_model(model).identity_tree())


def trial_id(trial: TrialConfig) -> str:
    """Return the identity of a trial, including its seed: 16 hexadecimal digits of the hash of its canonical form."""
    return identity(canonical_trial(trial).identity_tree())


#: Numbers of the blocks that have a site, by stage and position.
Blocks = dict[tuple[int, Position], list[int]]
#: Mechanisms at one position, without `stages` and `every`, each with its `every` by stage.
Entries = list[tuple[ModuleConfig, dict[int, int]]]


def _attention(model: ModelConfig) -> tuple[ModuleConfig, ...]:
    """Return the list of mechanisms in canonical form, position by position."""
    blocks: Blocks = defaultdict(list)
    for site in model.backbone.sites(model.size):
        blocks[site.stage, site.position].append(site.block)
    plain = [(m, m.canonical().model_copy(update={"stages": (), "every": 1})) for m in model.attention]
    canonical: list[ModuleConfig] = []
    for position in model.backbone.positions():
        entries: Entries = []
        for stage in model.backbone.stages():
            # Any two mechanisms in one stage share its first block, so their order matters within a stage, but not
            # across stages.
            start = 0
            for module, bare in plain:
                if module.position == position and stage in module.stages and blocks[stage, position]:
                    start = 1 + _add(bare, stage, module.every, entries, start, blocks)
        for bare, every in entries:
            common = _common_every(every, bare, blocks)
            canonical.append(bare.model_copy(update={"stages": tuple(every), "every": common}))
    return tuple(canonical)


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
    stages = [(blocks[stage, bare.position], own) for stage, own in every.items()]
    for common in range(1, 2 + max(block for numbers, _ in stages for block in numbers)):
        if all((b % common == 0) == (b % own == 0) for numbers, own in stages for b in numbers):
            return common
    return None
