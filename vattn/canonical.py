"""One form for all recipes that describe the same thing, and the identities that follow from it."""

from collections import defaultdict

from vattn.base import identity
from vattn.config import ModelConfig, TrialConfig
from vattn.modules import ModuleConfig, Position
from vattn.start import as_identity


def canonical_model(model: ModelConfig) -> ModelConfig:
    """Return the same network in its one form.

    Mechanisms that reach no block are gone, as are stages that they do not reach; options without effect are at their
    defaults; ``every`` is the smallest value that chooses the same blocks. Only mechanisms that share sites have an
    order: the others are sorted, and what could be one entry of the list is one.
    """
    sparse = "none" if model.sparse == "none" else model.sparse.canonical()
    return model.model_copy(update={"attention": _attention(model), "sparse": sparse})


def canonical_trial(trial: TrialConfig) -> TrialConfig:
    """Return the same trial in its one form; where its files and caches stand is no part of it."""
    # Frames around a chosen one are drawn as the backbone takes them, or the trial is refused.
    sampling = trial.data.sampling.model_copy(update={"frames_per_segment": "auto"})
    data = trial.data.canonical().model_copy(update={"sampling": sampling})
    # These save memory and time, and change no number.
    train = trial.train.model_copy(update={"recompute": "none", "checkpoint_minutes": 10.0})
    model = trial.model
    if train.init != "scratch":
        model = as_identity(model)
    if train.init == "identity":
        # Each mechanism says so now.
        train = train.model_copy(update={"init": "scratch"})
    return trial.model_copy(update={"data": data, "model": canonical_model(model), "train": train})


def architecture_id(model: ModelConfig) -> str:
    """Return the identity of a network: 16 hexadecimal digits."""
    return identity(canonical_model(model).tree())


def trial_id(trial: TrialConfig) -> str:
    """Return the identity of a trial, its seed included: 16 hexadecimal digits."""
    return identity(canonical_trial(trial).tree())


#: The blocks that have a site, by stage and position.
Blocks = dict[tuple[int, Position], list[int]]
#: Mechanisms at one position, without where they stand, and the `every` of each in each of its stages.
Entries = list[tuple[ModuleConfig, dict[int, int]]]


def _attention(model: ModelConfig) -> tuple[ModuleConfig, ...]:
    """Return the list of mechanisms in its one form, position by position."""
    blocks: Blocks = defaultdict(list)
    for site in model.backbone.sites(model.size):
        blocks[site.stage, site.position].append(site.block)
    plain = [(m, m.canonical().model_copy(update={"stages": (), "every": 1})) for m in model.attention]
    listed: list[ModuleConfig] = []
    for position in model.backbone.positions():
        here: Entries = []
        for stage in model.backbone.stages():
            # Any two mechanisms in one stage share its first block, so their order counts; across stages none does.
            place = 0
            for module, bare in plain:
                if module.position == position and stage in module.stages and blocks[stage, position]:
                    place = 1 + _join(bare, stage, module.every, here, place, blocks)
        for bare, every in here:
            listed.append(bare.model_copy(update={"stages": tuple(every), "every": _common_every(every, bare, blocks)}))
    return tuple(listed)


def _join(bare: ModuleConfig, stage: int, every: int, here: Entries, start: int, blocks: Blocks) -> int:
    """Give ``stage`` to the first entry from ``start`` on that can take it, or to a new one; return its place."""
    for place in range(start, len(here)):
        other, stages = here[place]
        if other == bare and _common_every(stages | {stage: every}, bare, blocks):
            stages[stage] = every
            return place
    here.insert(start, (bare, {stage: every}))
    return start


def _common_every(every: dict[int, int], bare: ModuleConfig, blocks: Blocks) -> int | None:
    """Return the smallest ``every`` that chooses in each stage the blocks that its own one chooses there."""
    stages = [(blocks[stage, bare.position], own) for stage, own in every.items()]
    for common in range(1, 2 + max(block for numbers, _ in stages for block in numbers)):
        if all((b % common == 0) == (b % own == 0) for numbers, own in stages for b in numbers):
            return common
    return None
